//! The answers of a real server, which `make test-cluster` recorded.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use kube::{Client, client::Body};
use serde_json::Value;
use vtep_apiserver::{
    ApiServer, USER,
    answers::{questions, reduced},
};

use crate::help::config;

const RECORD: &str = include_str!("../../../fixtures/api-server.json");

#[tokio::test]
async fn they_are_those_of_a_real_server() -> Result<()> {
    let recorded: BTreeMap<String, Value> = serde_json::from_str(RECORD)?;
    let server = ApiServer::start()?;
    let mut config = config(&server).await?;
    config.default_retry = false;
    let client = Client::try_from(config)?;
    let mut differences = String::new();
    for question in questions() {
        let mut request = hyper::Request::builder().method(question.method).uri(question.path);
        if !question.content_type.is_empty() {
            request = request.header("content-type", question.content_type);
        }
        let body =
            question.body.filter(|body| !body.is_null()).map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let answer = client.send(request.body(Body::from(body))?).await?;
        let code = answer.status().as_u16();
        let body = String::from_utf8(answer.into_body().collect_bytes().await?.to_vec())?;
        let (given, real) = (reduced(code, &body, USER), recorded.get(question.what).context(question.what)?);
        if given != *real {
            differences += &format!("{}:\n  this server: {given}\n  a real one:  {real}\n", question.what);
        }
    }
    anyhow::ensure!(differences.is_empty(), "{differences}");
    Ok(())
}
