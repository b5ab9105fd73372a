//! The two ways to install, and what people see afterwards.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    agent::{HEALTHY_WITHIN, is_healthy},
    cluster::{Cluster, eventually, in_cluster},
    node::NODE,
    tools,
};

/// The commands in README's section on how to install, in their order.
fn readme() -> Result<Vec<String>> {
    let readme = std::fs::read_to_string(tools::root().join("README.md"))?;
    let section =
        readme.split("\n## ").find(|section| section.starts_with("Install\n")).context("a section Install")?;
    let blocks = section.split("```sh\n").skip(1).filter_map(|block| block.split_once("```"));
    let commands: Vec<_> = blocks.flat_map(|(block, _)| block.lines()).map(str::to_owned).collect();
    ensure!(commands.len() == 4, "{commands:?}");
    Ok(commands)
}

/// BIG-IP sends to the pod, so that the agent learns its self IPs: README sets none.
fn teach(cluster: &Cluster) -> Result<()> {
    for bigip in &cluster.lab.bigips {
        vtep_lab::ping(
            &bigip.host,
            Some(bigip.addresses.self_ip.addr()),
            cluster.lab.topology.pod_ip,
            1,
            Duration::from_secs(1),
        )?;
    }
    Ok(())
}

/// The table of `vtep-agent status` in README, without numbers.
fn words(table: &str) -> Vec<String> {
    let is_word = |word: &&str| {
        !word.contains(|c: char| c.is_ascii_digit()) && !word.starts_with("kube:") && !word.starts_with("dir:")
    };
    table.split_whitespace().filter(is_word).map(str::to_owned).collect()
}

#[test]
fn the_readme_line_by_line() -> Result<()> {
    in_cluster(|cluster| {
        let commands = readme()?;
        let [helm, kustomize, rollout, status] = &commands[..] else { anyhow::bail!("{commands:?}") };
        let readme = std::fs::read_to_string(tools::root().join("README.md"))?;
        let (_, table) = readme.split_once("$ vtep-agent status\n").context("a table")?;
        let (table, _) = table.split_once("```").context("its end")?;
        for install in [helm, kustomize] {
            let said = cluster.run(install)?;
            ensure!(!said.is_empty(), "{install} says nothing");
            let said = cluster.run(rollout)?;
            ensure!(said.trim_end().ends_with("successfully rolled out"), "{said}");
            cluster.wait_for("it knows the VTEPs", HEALTHY_WITHIN, |status| status.vteps.len() == 2)?;
            teach(cluster)?;
            cluster.wait_for("ARP, ping and Cilium have answered", HEALTHY_WITHIN, |status| {
                is_healthy(status)
                    && status.cilium.version.is_some()
                    && status.vteps.iter().all(|vtep| vtep.probes.arp.rtt_us.is_some())
            })?;
            let printed = cluster.run(status)?;
            ensure!(words(&printed) == words(table), "{status} prints\n{printed}\nand README says\n{table}");
            if install == helm {
                cluster.run("helm uninstall vtep-agent --namespace kube-system --wait")?;
            }
        }
        Ok(())
    })
}

#[test]
fn logs_port_forward_and_events() -> Result<()> {
    in_cluster(|cluster| {
        cluster.install(&[])?;
        let log = cluster
            .run("kubectl -n kube-system logs --selector app.kubernetes.io/name=vtep-agent --prefix --tail 20")?;
        ensure!(log.contains("verdict changed cidr=10.1.6.0/24 verdict=healthy"), "{log}");
        ensure!(log.lines().all(|line| line.starts_with("[pod/vtep-agent-")), "{log}");
        let health = forwarded(cluster, "/healthz")?;
        ensure!(health.contains("\"healthy\":true"), "{health}");

        cluster.lab.bigips[0].down()?;
        eventually("kubectl describe node has the Event", Duration::from_secs(60), || {
            let node = cluster.run(&format!("kubectl describe node {NODE}"))?;
            Ok(node.lines().any(|line| line.contains("Warning") && line.contains("EndpointUnreachable")).then_some(()))
        })?;
        cluster.lab.bigips[0].up()?;
        eventually("and its end", Duration::from_secs(60), || {
            let node = cluster.run(&format!("kubectl describe node {NODE}"))?;
            Ok(node.lines().any(|line| line.contains("Normal") && line.contains("VtepHealthy")).then_some(()))
        })
    })
}

/// The answer to a request through `kubectl port-forward`.
fn forwarded(cluster: &Cluster, path: &str) -> Result<String> {
    let mut kubectl = cluster.client("kubectl")?;
    kubectl.args(["-n", "kube-system", "port-forward", "daemonset/vtep-agent", "9808"]);
    let mut child = kubectl.stdout(Stdio::piped()).spawn()?;
    let mut said = String::new();
    let answer = BufReader::new(child.stdout.take().context("an output")?)
        .read_line(&mut said)
        .map_err(Into::into)
        .and_then(|_| {
            ensure!(said.starts_with("Forwarding from 127.0.0.1:9808"), "{said}");
            let path = path.to_owned();
            cluster.lab.api_host.as_ref().context("an API host")?.run(move || {
                let mut stream = TcpStream::connect("127.0.0.1:9808")?;
                stream.set_read_timeout(Some(Duration::from_secs(10)))?;
                write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                Ok(answer)
            })
        });
    child.kill()?;
    child.wait()?;
    answer
}
