//! What the running agent says over HTTP.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, bail};
use tokio::time;
use vtep_core::report::status::Status;

use crate::cli::status::{get, table};

/// The timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The body of an answer.
pub(super) async fn body(url: &str, path: &str) -> anyhow::Result<Vec<u8>> {
    let (code, body) = answer(url, path).await?;
    if !code.is_success() {
        bail!("{url}{path} answered {code}: is the running agent older than this program?");
    }
    Ok(body)
}

/// The status as `/status` has it, and as the table for people.
pub(super) async fn status(url: &str) -> (anyhow::Result<Vec<u8>>, anyhow::Result<Vec<u8>>) {
    let status = body(url, "/status").await;
    let table = match &status {
        Ok(status) => as_table(status),
        Err(error) => Err(anyhow::anyhow!("{error:#}")),
    };
    (status, table)
}

fn as_table(status: &[u8]) -> anyhow::Result<Vec<u8>> {
    let status: Status = serde_json::from_slice(status).context("the answer is not the status of a vtep-agent")?;
    Ok(anstream::adapter::strip_str(&table(&status)?).to_string().into_bytes())
}

/// The three checks: an answer of 503 is one, too.
pub(super) async fn health(url: &str) -> anyhow::Result<Vec<u8>> {
    let mut text = String::new();
    for path in ["/livez?verbose", "/readyz?verbose", "/healthz"] {
        let (code, body) = answer(url, path).await?;
        writeln!(text, "{path}: {code}\n{}", String::from_utf8_lossy(&body))?;
    }
    Ok(text.into_bytes())
}

async fn answer(url: &str, path: &str) -> anyhow::Result<(axum::http::StatusCode, Vec<u8>)> {
    let answer = time::timeout(TIMEOUT, get(url, path)).await;
    let (code, body) = answer
        .context("it took too long")
        .and_then(|answer| answer)
        .with_context(|| format!("no answer from {url}{path}"))?;
    Ok((code, body.to_vec()))
}
