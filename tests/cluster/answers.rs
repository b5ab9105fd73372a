//! What a real API server answers, for the record that keeps the one in `tests/support` like it.

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;
use vtep_apiserver::answers::{Question, questions, reduced};
use vtep_lab::Lab;

use crate::{control_plane::ControlPlane, tools};

fn record() -> PathBuf {
    tools::root().join("tests/fixtures/api-server.json")
}

async fn ask(client: &Client, question: Question) -> Result<(String, Value)> {
    let Question { what, method, path, content_type, body } = question;
    let mut request = hyper::Request::builder().method(method).uri(path);
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    let body = body.filter(|body| !body.is_null()).map_or_else(Vec::new, |body| body.to_string().into_bytes());
    let answer = client.send(request.body(Body::from(body))?).await.with_context(|| what.to_owned())?;
    let code = answer.status().as_u16();
    let body = String::from_utf8(answer.into_body().collect_bytes().await?.to_vec())?;
    Ok((what.to_owned(), reduced(code, &body, "admin")))
}

#[test]
fn the_record_is_what_the_server_says() -> Result<()> {
    let lab = Lab::builder().api_host(true).start()?;
    let control_plane = ControlPlane::start(&lab)?;
    let kubeconfig = Kubeconfig::read_from(control_plane.kubeconfig("admin"))?;
    let answers = lab.api_host.as_ref().context("an API host")?.run(move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            config.default_retry = false;
            let client = Client::try_from(config)?;
            let mut answers = BTreeMap::new();
            for question in questions() {
                answers.extend([ask(&client, question).await?]);
            }
            Ok(answers)
        })
    })?;
    let text = serde_json::to_string_pretty(&answers)? + "\n";
    if env::var_os("UPDATE_RECORD").is_some() {
        fs::write(record(), &text)?;
    }
    let recorded = fs::read_to_string(record()).context("no record: run this test with UPDATE_RECORD=1")?;
    ensure!(recorded == text, "UPDATE_RECORD=1 writes this server's answers:\n{text}");
    Ok(())
}
