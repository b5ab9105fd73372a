//! The rights of the pod on its node and of its ServiceAccount at the API server: no more than this file lists.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::tools::{DEFAULTS, EVERYTHING, Objects, render, run_well, template};

/// The rights with any values.
pub(crate) fn check(objects: &Objects) -> Result<()> {
    let pod = objects.pod()?;
    ensure!(pod["hostNetwork"] == true, "not in the node's network");
    for field in ["hostPID", "hostIPC", "shareProcessNamespace", "securityContext"] {
        ensure!(pod[field].is_null(), "{field}: {}", pod[field]);
    }
    for containers in ["containers", "initContainers"] {
        for container in pod[containers].as_array().into_iter().flatten() {
            confined(container).with_context(|| format!("{containers}: {}", container["name"]))?;
        }
    }
    let writable: Vec<_> = mounts(objects)?.into_iter().filter(|(_, (_, read_only))| !read_only).collect();
    ensure!(writable.len() == 1 && writable[0].1.0 == "/var/lib/vtep-agent", "writable: {writable:?}");
    let service_account = objects.only("ServiceAccount")?;
    ensure!(service_account["automountServiceAccountToken"] == false, "the token is mounted where nobody asked for it");
    for kind in ["Role", "ClusterRole"] {
        for role in objects.of_kind(kind) {
            ensure!(!role.to_string().contains('*'), "a wildcard in {role}");
        }
    }
    Ok(())
}

fn confined(container: &Value) -> Result<()> {
    let context = &container["securityContext"];
    let capabilities = &context["capabilities"];
    ensure!(capabilities["drop"] == json!(["ALL"]), "{capabilities}");
    let known = [json!(["BPF", "NET_ADMIN", "NET_RAW"]), json!(["SYS_ADMIN", "SYS_RESOURCE", "NET_ADMIN", "NET_RAW"])];
    ensure!(known.contains(&capabilities["add"]), "{capabilities}");
    for (field, value) in [
        ("privileged", json!(false)),
        ("allowPrivilegeEscalation", json!(false)),
        ("readOnlyRootFilesystem", json!(true)),
        ("seccompProfile", json!({"type": "RuntimeDefault"})),
    ] {
        ensure!(context[field] == value, "{field}: {}", context[field]);
    }
    Ok(())
}

/// A path in the container, its content, and whether it is read-only.
type Mount = (&'static str, &'static str, bool);

/// The node's directories in the container, and whether they are read-only.
fn mounts(objects: &Objects) -> Result<BTreeMap<String, (String, bool)>> {
    let volumes = objects.pod()?["volumes"].as_array().context("volumes")?;
    let mut mounts = BTreeMap::new();
    for mount in objects.container()?["volumeMounts"].as_array().context("mounts")? {
        let volume =
            volumes.iter().find(|volume| volume["name"] == mount["name"]).context("a volume for each mount")?;
        let source = volume["hostPath"]["path"].as_str().or(volume["configMap"]["name"].as_str());
        let source = source.with_context(|| format!("neither of the node nor a ConfigMap: {volume}"))?;
        let path = mount["mountPath"].as_str().context("a path")?;
        mounts.insert(path.to_owned(), (source.to_owned(), mount["readOnly"] == true));
    }
    ensure!(mounts.len() == volumes.len(), "a volume without a mount, or mounted twice: {volumes:?}");
    Ok(mounts)
}

#[test]
fn sys_admin_is_there_only_for_kernels_that_do_not_know_bpf() -> Result<()> {
    for (values, expected) in [
        (DEFAULTS, json!(["BPF", "NET_ADMIN", "NET_RAW"])),
        (EVERYTHING, json!(["BPF", "NET_ADMIN", "NET_RAW"])),
        (&["legacyKernel=true"][..], json!(["SYS_ADMIN", "SYS_RESOURCE", "NET_ADMIN", "NET_RAW"])),
    ] {
        let objects = render(values)?;
        let capabilities = &objects.container()?["securityContext"]["capabilities"]["add"];
        ensure!(*capabilities == expected, "{values:?}: {capabilities}");
    }
    Ok(())
}

#[test]
fn what_it_sees_of_the_node_is_narrow() -> Result<()> {
    let bpffs: Mount = ("/sys/fs/bpf", "/sys/fs/bpf", true);
    let state = ("/var/lib/vtep-agent", "/var/lib/vtep-agent", false);
    let run = ("/var/run/cilium", "/var/run/cilium", true);
    let run_elsewhere = ("/var/run/cilium", "/run/other", true);
    // With a configured Cilium version, the agent does not need Cilium's socket.
    let without_socket = ("/var/run/cilium/state", "/var/run/cilium/state", true);
    let config = ("/etc/cilium-config", "cilium-config", true);
    let cases: [(&[&str], &[Mount]); 4] = [
        (DEFAULTS, &[bpffs, run, state]),
        (&["cilium.version=1.18.8"], &[bpffs, without_socket, state]),
        (&["config.source=dir"], &[bpffs, run, state, config]),
        (&["cilium.runPath=/run/other"], &[bpffs, run_elsewhere, state]),
    ];
    for (values, expected) in cases {
        let expected =
            expected.iter().map(|(path, source, read_only)| ((*path).into(), ((*source).into(), *read_only)));
        let found = mounts(&render(values)?)?;
        ensure!(found == expected.collect(), "{values:?}: {found:?}");
    }
    Ok(())
}

/// Each rule as `Kind namespace: groups resources names verbs`.
fn rules(objects: &Objects) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for kind in ["Role", "ClusterRole"] {
        for role in objects.of_kind(kind) {
            let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default();
            for rule in role["rules"].as_array().context("rules")? {
                let of = |field: &str| {
                    let values = rule[field].as_array().into_iter().flatten();
                    values.filter_map(Value::as_str).collect::<Vec<_>>().join(",")
                };
                let [group, resource, name, verbs] = ["apiGroups", "resources", "resourceNames", "verbs"].map(of);
                found.push(format!("{kind} {namespace}: {group} {resource} {name} {verbs}"));
            }
            bound(objects, kind, role)?;
        }
    }
    found.sort();
    Ok(found)
}

/// A role without its binding grants nothing; a binding to others grants too much.
fn bound(objects: &Objects, kind: &str, role: &Value) -> Result<()> {
    let is_of = |binding: &&Value| {
        binding["roleRef"]["kind"] == kind
            && binding["roleRef"]["name"] == role["metadata"]["name"]
            && binding["metadata"]["namespace"] == role["metadata"]["namespace"]
    };
    let name = format!("{kind}Binding");
    let bindings: Vec<_> = objects.of_kind(&name).filter(is_of).collect();
    let agent = json!([{"kind": "ServiceAccount", "name": "vtep-agent", "namespace": "kube-system"}]);
    ensure!(bindings.len() == 1 && bindings[0]["subjects"] == agent, "{role}: {bindings:?}");
    Ok(())
}

#[test]
fn its_roles_hold_what_it_asks_for_and_no_more() -> Result<()> {
    let node = "ClusterRole :  nodes  get,watch";
    let cilium_node = "ClusterRole : cilium.io ciliumnodes  get,watch";
    let vtep_configs = "ClusterRole : cilium.io ciliumvtepconfigs  list,watch";
    let vtep_node_config = "ClusterRole : cilium.io ciliumvtepnodeconfigs  get,watch";
    let endpoints = "Role default: discovery.k8s.io endpointslices  list,watch";
    let condition = "ClusterRole :  nodes/status  patch";
    let node_events = "Role default: events.k8s.io events  create,patch";
    let configmap_events = "Role kube-system: events.k8s.io events  create";
    let configmap = "Role kube-system:  configmaps cilium-config get,watch";
    let node_configs = "Role kube-system: cilium.io ciliumnodeconfigs  list,watch";
    let elsewhere = [
        "Role cilium:  configmaps settings get,watch",
        "Role cilium: cilium.io ciliumnodeconfigs  list,watch",
        "Role cilium: events.k8s.io events  create",
    ];
    let with_objects =
        |more: &[&'static str]| [&[node, cilium_node, endpoints, vtep_configs, vtep_node_config], more].concat();
    let cases: [(&[&str], &[&str]); 6] = [
        (DEFAULTS, &with_objects(&[node_events, configmap, node_configs, configmap_events])),
        (&["events.enabled=false"], &with_objects(&[configmap, node_configs])),
        (
            &["nodeCondition.enabled=true"],
            &with_objects(&[condition, node_events, configmap, node_configs, configmap_events]),
        ),
        (
            &["cilium.namespace=cilium", "cilium.configMap=settings"],
            &with_objects(&[elsewhere[0], elsewhere[1], elsewhere[2], node_events]),
        ),
        (
            &["vtepConfigs.enabled=false"],
            &[node, cilium_node, endpoints, node_events, configmap, node_configs, configmap_events],
        ),
        // No right at all: the pod does not even get a token.
        (&["config.source=dir"], &[]),
    ];
    for (values, expected) in cases {
        let objects = render(values)?;
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        let found = rules(&objects)?;
        ensure!(found == expected, "{values:?}: {found:#?}");
        let token = &objects.pod()?["automountServiceAccountToken"];
        ensure!(*token == !expected.is_empty(), "{values:?}: token {token}");
        let bindings =
            objects.0.iter().filter(|object| object["kind"].as_str().is_some_and(|kind| kind.ends_with("Binding")));
        let roles =
            objects.0.iter().filter(|object| object["kind"].as_str().is_some_and(|kind| kind.ends_with("Role")));
        let policies = objects.of_kind("ValidatingAdmissionPolicyBinding").count();
        ensure!(bindings.count() - policies == roles.count(), "{values:?}: a binding without a role");
    }
    Ok(())
}

/// The pod of `helm test` has no right that the agent's own pod does not have.
#[test]
fn the_test_of_the_release_may_do_no_more() -> Result<()> {
    let mut args = template(DEFAULTS);
    args.retain(|arg| *arg != "--skip-tests");
    let objects = Objects::parse(&run_well("helm", &args)?)?;
    let (pod, agents) = (&objects.only("Pod")?["spec"], objects.pod()?);
    for field in ["hostNetwork", "hostPID", "hostIPC", "serviceAccountName", "volumes", "tolerations", "nodeSelector"] {
        ensure!(pod[field] == agents[field], "{field}: {}", pod[field]);
    }
    ensure!(pod["automountServiceAccountToken"] == false && pod["restartPolicy"] == "Never", "{pod:#}");
    let preflight = &pod["initContainers"][0];
    confined(preflight)?;
    ensure!(preflight["args"] == json!(["preflight"]), "{preflight:#}");
    for field in ["image", "env", "volumeMounts", "securityContext"] {
        ensure!(preflight[field] == objects.container()?[field], "{field}: {}", preflight[field]);
    }
    let status = &pod["containers"][0];
    ensure!(status["args"] == json!(["status"]) && status["volumeMounts"].is_null(), "{status:#}");
    let context = &status["securityContext"];
    ensure!(context["capabilities"] == json!({"drop": ["ALL"]}) && context["runAsNonRoot"] == true, "{context}");
    Ok(())
}

/// OpenShift admits the pods with what they ask for, and with nothing else.
#[test]
fn openshift_gets_the_same_rights() -> Result<()> {
    let own = ["serviceAccount.create=false", "serviceAccount.name=own"];
    for values in [&["openshift.enabled=true"][..], &["openshift.enabled=true", "legacyKernel=true", own[0], own[1]]] {
        let objects = render(values)?;
        let constraints = objects.only("SecurityContextConstraints")?;
        let (pod, context) = (objects.pod()?, &objects.container()?["securityContext"]);
        let account =
            format!("system:serviceaccount:kube-system:{}", pod["serviceAccountName"].as_str().context("a name")?);
        for (found, expected) in [
            (&constraints["users"], json!([account])),
            (&constraints["groups"], json!([])),
            (&constraints["allowedCapabilities"], context["capabilities"]["add"].clone()),
            (&constraints["requiredDropCapabilities"], context["capabilities"]["drop"].clone()),
            (&constraints["allowPrivilegedContainer"], context["privileged"].clone()),
            (&constraints["allowPrivilegeEscalation"], context["allowPrivilegeEscalation"].clone()),
            (&constraints["readOnlyRootFilesystem"], context["readOnlyRootFilesystem"].clone()),
            (&constraints["allowHostNetwork"], pod["hostNetwork"].clone()),
            (&constraints["allowHostPID"], json!(false)),
            (&constraints["allowHostIPC"], json!(false)),
            (&constraints["seccompProfiles"], json!(["runtime/default"])),
            (&constraints["seLinuxContext"]["seLinuxOptions"], context["seLinuxOptions"].clone()),
            (&context["seLinuxOptions"]["type"], json!("spc_t")),
        ] {
            ensure!(*found == expected, "{values:?}: {found} instead of {expected}");
        }
    }
    ensure!(render(DEFAULTS)?.of_kind("SecurityContextConstraints").count() == 0, "elsewhere, nobody knows that kind");
    Ok(())
}

/// With roles and a ServiceAccount of somebody else, the chart makes none.
#[test]
fn rights_can_come_from_elsewhere() -> Result<()> {
    let objects = render(&["rbac.create=false", "serviceAccount.create=false", "serviceAccount.name=own"])?;
    for kind in ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "ServiceAccount"] {
        ensure!(objects.of_kind(kind).count() == 0, "{kind}");
    }
    ensure!(objects.pod()?["serviceAccountName"] == "own");
    Ok(())
}
