//! Cilium's CRDs for VTEPs (`tests/fixtures/crds`): the test API server's objects are valid, and the core reads what they contain.

use anyhow::{Context, Result, ensure};
use jsonschema::Validator;
use serde_json::{Value, json};
use vtep_apiserver::{
    Resource,
    objects::{self, VtepEndpoint},
};
use vtep_core::config::vtep_config::{Endpoint, Kind, Schema, Unsynced, VtepConfig};

const V2: &str = include_str!("fixtures/crds/ciliumvtepconfigs-v2.yaml");
const V2ALPHA1: &str = include_str!("fixtures/crds/ciliumvtepconfigs-v2alpha1.yaml");
const NODE: &str = include_str!("fixtures/crds/ciliumvtepnodeconfigs-v2alpha1.yaml");

const GATEWAY: VtepEndpoint<'_> =
    VtepEndpoint { name: "vpc-gateway", tunnel_endpoint: "192.0.2.15", cidr: "10.20.0.0/16", mac: "82:36:0A:14:01:0f" };
const BIGIP: VtepEndpoint<'_> =
    VtepEndpoint { name: "bigip-1", tunnel_endpoint: "10.169.72.34", cidr: "10.1.6.0/24", mac: "00:50:56:a0:7d:d8" };

#[test]
fn the_server_serves_what_the_manifests_define() -> Result<()> {
    let (configs, node_configs) = (Resource::CiliumVtepConfigs, Resource::CiliumVtepNodeConfigs);
    for (manifest, resource, version, short_name, has_status) in [
        (V2, configs, "v2", "cvtep", true),
        (V2ALPHA1, configs, "v2alpha1", "cvtep", false),
        (NODE, node_configs, "v2alpha1", "cvtepnode", true),
    ] {
        let crd: Value = serde_saphyr::from_str(manifest)?;
        let (spec, names) = (&crd["spec"], &crd["spec"]["names"]);
        assert_eq!(crd["metadata"]["name"], format!("{}.{}", resource.plural(), resource.group()));
        assert_eq!([&spec["group"], &spec["scope"]], [resource.group(), "Cluster"]);
        assert_eq!([&names["plural"], &names["kind"]], [resource.plural(), resource.kind()]);
        assert_eq!(names["shortNames"], json!([short_name]));
        assert_eq!(spec["versions"].as_array().map(Vec::len), Some(1), "{version}");
        assert_eq!(spec["versions"][0]["name"], version);
        assert_eq!(!spec["versions"][0]["subresources"]["status"].is_null(), has_status, "{version}");
    }
    Ok(())
}

#[test]
fn the_core_reads_valid_objects() -> Result<()> {
    let both = [GATEWAY, BIGIP];
    let selector =
        json!({ "matchLabels": { "zone": "a" }, "matchExpressions": [{ "key": "gpu", "operator": "Exists" }] });
    let (v2, v2alpha1, node) =
        ((Kind::Config, Schema::V2), (Kind::Config, Schema::V2alpha1), (Kind::NodeConfig, Schema::V2alpha1));
    let masked = objects::vtep_config_v2("hybrid-gateway", Some("255.255.0.0"), &[GATEWAY]);
    check(V2, masked, VtepConfig { mask: Some("255.255.0.0".into()), ..expected(v2, "hybrid-gateway", &[GATEWAY]) })?;
    let plain = objects::vtep_config_v2("f5", None, &[BIGIP]);
    check(V2, plain.clone(), expected(v2, "f5", &[BIGIP]))?;
    check(V2ALPHA1, objects::vtep_config_v2alpha1("all", None, &both), expected(v2alpha1, "all", &both))?;
    let selected = VtepConfig {
        selector: Ok(Some(serde_json::from_value(selector.clone())?)),
        ..expected(v2alpha1, "zone-a", &both)
    };
    check(V2ALPHA1, objects::vtep_config_v2alpha1("zone-a", Some(selector), &both), selected)?;
    let of_node = objects::vtep_node_config("worker-1", &both);
    check(NODE, of_node.clone(), expected(node, "worker-1", &both))?;
    check(NODE, objects::vtep_node_config("worker-1", &[]), expected(node, "worker-1", &[]))?;

    let healthy = objects::synced(objects::ready(plain.clone(), true, "all synced"), BIGIP.name, None);
    check(V2, healthy, VtepConfig { ready: Some(true), ..expected(v2, "f5", &[BIGIP]) })?;
    let reports = |list: &str| {
        let unsynced = |path: String, reason: &str| Unsynced { path, reason: reason.into() };
        vec![
            unsynced("status.conditions[Ready]".into(), "sync errors"),
            unsynced(format!("status.{list}[bigip-1]"), "the map is full"),
        ]
    };
    let failed =
        |object| objects::synced(objects::ready(object, false, "sync errors"), BIGIP.name, Some("the map is full"));
    let (ready, unsynced) = (Some(false), reports("endpointStatuses"));
    check(V2, failed(plain), VtepConfig { ready, unsynced, ..expected(v2, "f5", &[BIGIP]) })?;
    let unsynced = reports("vtepEndpointStatuses");
    check(NODE, failed(of_node), VtepConfig { ready, unsynced, ..expected(node, "worker-1", &both) })
}

#[test]
fn wrong_objects_are_invalid() -> Result<()> {
    for (manifest, list) in [(V2, "endpoints"), (V2ALPHA1, "vtepEndpoints"), (NODE, "vtepEndpoints")] {
        let object = |endpoints: &[VtepEndpoint<'_>]| match manifest {
            V2 => objects::vtep_config_v2("x", None, endpoints),
            V2ALPHA1 => objects::vtep_config_v2alpha1("x", None, endpoints),
            _ => objects::vtep_node_config("x", endpoints),
        };
        let with = |field: &str, value: Value| {
            let mut object = object(&[BIGIP]);
            object["spec"][list][0][field] = value;
            object
        };
        let errors = |object: &Value| errors(manifest, object);
        ensure!(errors(&object(&[BIGIP; 8]))?.is_empty(), "eight endpoints");
        ensure!(!errors(&object(&[BIGIP; 9]))?.is_empty(), "nine endpoints");
        ensure!(errors(&object(&[]))?.is_empty() == (manifest == NODE), "only a node may have no endpoint");
        for (field, wrong) in [
            ("name", json!("BIG_IP")),
            ("tunnelEndpoint", json!("10.169.72.340")),
            ("tunnelEndpoint", json!("10.169.72.34 10.169.72.36")),
            ("cidr", json!("10.20.0.0/16,10.30.0.0/16")),
            ("cidr", json!("10.20.0.0/16 10.30.0.0/16")),
            ("cidr", json!("10.1.6.0/33")),
            ("cidr", json!("10.1.6.0")),
            ("cidr", json!(["10.1.6.0/24"])),
            ("mac", json!("00-50-56-a0-7d-d8")),
            ("mac", json!("0:50:56:a0:7d:d8")),
        ] {
            let errors = errors(&with(field, wrong.clone()))?;
            ensure!(
                errors.len() == 1 && errors[0].starts_with(&format!("/spec/{list}/0/{field}: ")),
                "{wrong}: {errors:?}"
            );
        }
        for field in ["name", "tunnelEndpoint", "cidr", "mac"] {
            let mut object = object(&[BIGIP]);
            object["spec"][list][0].as_object_mut().context("an endpoint")?.remove(field);
            ensure!(!errors(&object)?.is_empty(), "without {field}");
        }
    }
    ensure!(!errors(V2, &objects::vtep_config_v2("x", Some("24"), &[BIGIP]))?.is_empty(), "a mask is an address");
    let wrong = json!({ "matchExpressions": [{ "key": "zone", "operator": "Is" }] });
    ensure!(!errors(V2ALPHA1, &objects::vtep_config_v2alpha1("x", Some(wrong), &[BIGIP]))?.is_empty(), "an operator");
    ensure!(!errors(V2, &objects::vtep_config_v2alpha1("x", None, &[BIGIP]))?.is_empty(), "the other schema");
    ensure!(!errors(V2ALPHA1, &objects::vtep_config_v2("x", None, &[BIGIP]))?.is_empty(), "the other schema");
    Ok(())
}

/// The object is valid, and the core reads it as expected.
fn check(manifest: &str, object: Value, expected: VtepConfig) -> Result<()> {
    let errors = errors(manifest, &object)?;
    ensure!(errors.is_empty(), "{errors:#?}\n{object:#}");
    assert_eq!(VtepConfig::read(expected.kind, &object), Ok(expected), "{object:#}");
    Ok(())
}

/// The errors of an object under the schema of a CRD's version, with their places.
fn errors(manifest: &str, object: &Value) -> Result<Vec<String>> {
    let crd: Value = serde_saphyr::from_str(manifest)?;
    let validator: Validator = jsonschema::validator_for(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])?;
    Ok(validator.iter_errors(object).map(|error| format!("{}: {error}", error.instance_path())).collect())
}

/// An object without a selector, a mask and a problem.
fn expected((kind, schema): (Kind, Schema), name: &str, endpoints: &[VtepEndpoint<'_>]) -> VtepConfig {
    let endpoints = endpoints.iter().map(|VtepEndpoint { name, tunnel_endpoint, cidr, mac }| Endpoint {
        name: Some((*name).into()),
        tunnel_endpoint: Some((*tunnel_endpoint).into()),
        cidr: Some((*cidr).into()),
        mac: Some((*mac).into()),
    });
    let (name, endpoints) = (name.to_owned(), endpoints.collect());
    let version = if schema == Schema::V2 { "v2" } else { "v2alpha1" }.to_owned();
    let (selector, mask, ready, unsynced) = (Ok(None), None, None, vec![]);
    VtepConfig { kind, name, version, schema, selector, mask, endpoints, ready, unsynced }
}
