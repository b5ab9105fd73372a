//! An API server that misbehaves in every way, in front of a real one or by itself: the agent keeps what it has, and follows the next edit.
//! `tests/cluster` runs the same in front of a real server.

use anyhow::{Context, Result, bail, ensure};
use vtep_apiserver::{After, ApiServer, Fault, Matcher, Request, Resource, Times, Verb, objects};
use vtep_lab::{Config, Lab, Vtep};

use crate::{
    api::{NAME, NAMESPACE, apply, start},
    support::{HEALTHY_WITHIN, NOTICED_WITHIN, all_healthy, eventually, in_kernel},
};

pub(crate) fn is_survived(lab: &Lab, server: &ApiServer) -> Result<()> {
    let agent = start(lab, server, &[])?;
    agent.wait_for("both VTEPs are healthy", HEALTHY_WITHIN, all_healthy)?;
    let [first, second] = lab.topology.vteps()[..] else { bail!("two VTEPs") };
    let faults = [
        Fault::Unauthorized,
        Fault::Forbidden,
        Fault::NotFound,
        Fault::Gone,
        Fault::TooManyRequests(1),
        Fault::InternalError,
        Fault::Hang,
        Fault::HalfLine(After::Close),
        Fault::HalfLine(After::End),
        Fault::Reset,
        Fault::Bookmarks(100_000),
        Fault::WrongShape,
        Fault::Garbage,
        Fault::NotHttp,
        Fault::Close,
        Fault::End,
    ];
    let configmap = Matcher::all().resource("configmaps");
    for (n, fault) in (100..).zip(faults) {
        // In the open watch, and in the first answer after it.
        server.clear_requests();
        server.misbehave(configmap.clone(), fault.clone(), Times::Next(1));
        server.interrupt(&configmap, if fault == Fault::Hang { &Fault::Close } else { &fault });
        let before = lab.cilium.vtep_entries()?;
        let watches_again = || {
            let proper = |request: &Request| configmap.matches(request) && request.fault.is_none();
            Ok(server.requests().iter().any(|request| proper(request) && request.verb == Verb::Watch).then_some(()))
        };
        // A stream of bookmarks does not end the watch.
        if !matches!(fault, Fault::Bookmarks(_)) {
            eventually("it watches again", NOTICED_WITHIN, watches_again)
                .with_context(|| format!("after {fault:?}"))?;
        }
        ensure!(lab.cilium.vtep_entries()? == before, "{fault:?} changed the kernel");
        let moved = Vtep { endpoint: [10, 169, 72, n].into(), ..second };
        apply(server, &Config::keys_for(&[first, moved]))?;
        eventually(
            "the next edit is programmed",
            NOTICED_WITHIN,
            || Ok(in_kernel(lab, &[first, moved])?.then_some(())),
        )
        .with_context(|| format!("after {fault:?}\n{}", agent.log().join("\n")))?;
        agent.wait_for("it has recovered", NOTICED_WITHIN, |status| status.config.source_error.is_none())?;
        ensure!(agent.code("/livez")? == 200, "{fault:?}");
        server.behave();
    }
    let said = |text: &str| agent.lines(text).len();
    ensure!(
        said("cannot read the configuration; ") == said("the configuration can be read again"),
        "one line for each change of state:\n{}",
        agent.log().join("\n")
    );

    // A ConfigMap of the maximum size.
    let data = Config::seed_keys();
    let data = data.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    server.apply(Resource::ConfigMaps, objects::large_config_map(NAMESPACE, NAME, data))?;
    eventually("1 MiB is read", NOTICED_WITHIN, || Ok(in_kernel(lab, &[first, second])?.then_some(())))
}
