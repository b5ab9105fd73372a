//! Port-forward and exec, with kube's own client.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::AttachParams};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use vtep_apiserver::{ApiServer, Exec, Fault, Matcher, Times};

use crate::help::client;

const PORT: u16 = 9808;

/// A server of one pod, in which something answers each request with these bytes.
async fn with_pod(answer: &'static str) -> Result<(ApiServer, Api<Pod>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = ApiServer::start()?;
    server.run_pod("a", Some(listener.local_addr()?));
    server.run_pod("empty", None);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            // Requests of these tests are short.
            if stream.read(&mut request).await.is_ok_and(|length| length > 0) {
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    let api = Api::namespaced(client(&server).await?, "kube-system");
    Ok((server, api))
}

#[tokio::test]
async fn a_port_forward_carries_bytes_both_ways() -> Result<()> {
    let (_server, api) = with_pod("answer").await?;
    let mut forwarder = api.portforward("a", &[PORT]).await?;
    let mut stream = forwarder.take_stream(PORT).context("a stream")?;
    stream.write_all(b"request").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert_eq!(answer, "answer");
    Ok(())
}

#[tokio::test]
async fn a_closed_port_has_the_kubelets_reason() -> Result<()> {
    let (_server, api) = with_pod("").await?;
    let mut forwarder = api.portforward("empty", &[PORT]).await?;
    let reason = forwarder.take_error(PORT).context("an error")?.await.context("a reason")?;
    ensure!(reason.ends_with("connect: connection refused"), "{reason}");
    Ok(())
}

#[tokio::test]
async fn an_exec_prints_the_status_and_knows_nothing_else() -> Result<()> {
    let (_server, api) = with_pod("HTTP/1.1 200 OK\r\n\r\n{}").await?;
    let parameters = AttachParams::default().stdin(false).container("vtep-agent");
    let mut process = api.exec("a", ["vtep-agent", "status", "-o", "json"], &parameters).await?;
    let status = process.take_status().context("a status")?;
    let mut output = String::new();
    process.stdout().context("an output")?.read_to_string(&mut output).await?;
    assert_eq!(output, "{}");
    assert_eq!(status.await.and_then(|status| status.status).as_deref(), Some("Success"));
    let mut process = api.exec("a", ["sh"], &parameters).await?;
    let status = process.take_status().context("a status")?.await.context("an end")?;
    assert_eq!(status.status.as_deref(), Some("Failure"));
    Ok(())
}

#[tokio::test]
async fn an_exec_does_what_the_test_says() -> Result<()> {
    let (server, api) = with_pod("").await?;
    server.on_exec("a", Exec::Ends { stdout: vec![7; 100_000], stderr: "words".into(), code: 1 });
    let parameters = AttachParams::default().stdin(false).container("vtep-agent");
    let mut process = api.exec("a", ["vtep-agent", "bundle"], &parameters).await?;
    let status = process.take_status().context("a status")?;
    let (mut output, mut errors) = (Vec::new(), String::new());
    let (mut stdout, mut stderr) = (process.stdout().context("an output")?, process.stderr().context("errors")?);
    tokio::try_join!(stdout.read_to_end(&mut output), stderr.read_to_string(&mut errors))?;
    assert_eq!((output.len(), errors.as_str()), (100_000, "words"));
    let end = status.await.context("an end")?;
    assert_eq!(end.message.as_deref(), Some("command terminated with exit code 1"));
    Ok(())
}

#[tokio::test]
async fn refusals_and_unknown_pods_are_statuses() -> Result<()> {
    let (server, api) = with_pod("").await?;
    let code = |error: Option<kube::Error>| match error {
        Some(kube::Error::Api(status)) => status.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(api.portforward("nobody", &[PORT]).await.err()), 404);
    server.misbehave(Matcher::all().resource("pods/portforward"), Fault::Forbidden, Times::Always);
    assert_eq!(code(api.portforward("a", &[PORT]).await.err()), 403);
    Ok(())
}
