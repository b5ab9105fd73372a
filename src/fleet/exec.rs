//! Commands in an agent's pod, over a WebSocket of the API server: the pod's environment has the agent's settings.

use axum::body::Bytes;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::{Api, api::AttachParams};
use tokio::io::{self, AsyncReadExt};

use super::{
    ANSWER_LIMIT,
    pods::AgentPod,
    ways::{Failure, of_error},
};
use crate::k8s::words;

/// The most bytes of an archive: a node's bundle has at most 8 MiB before it is compressed.
const ARCHIVE_LIMIT: usize = 10 << 20;
/// The most of an error text that is kept.
const ERROR_LIMIT: u64 = 8 << 10;
/// The buffer of the output: a status takes one or two.
const BUFFER: usize = 32 << 10;

/// What `vtep-agent bundle` has made in a pod.
#[derive(Clone, Debug)]
pub struct Archive {
    pub bytes: Vec<u8>,
    /// Otherwise a part is missing, and the README inside says which one.
    pub is_complete: bool,
}

/// The output of `vtep-agent status -o json`.
///
/// # Errors
///
/// The API server refuses, or the command prints nothing.
pub async fn exec_status(api: &Api<Pod>, pod: &AgentPod) -> Result<Bytes, Failure> {
    let process = run(api, pod, ["vtep-agent", "status", "-o", "json"], ANSWER_LIMIT).await?;
    // Its exit status says only whether the node is healthy.
    if process.stdout.is_empty() { Err(process.failure()) } else { Ok(process.stdout.into()) }
}

/// The output of `vtep-agent bundle`. It writes no file in the pod, and ends by itself if nobody reads.
///
/// # Errors
///
/// The API server refuses, or the command makes no bundle.
pub async fn exec_bundle(api: &Api<Pod>, pod: &AgentPod, seconds: u64) -> Result<Archive, Failure> {
    let seconds = seconds.to_string();
    let command = ["vtep-agent", "bundle", "--output", "-", "--seconds", seconds.as_str()];
    let process = run(api, pod, command, ARCHIVE_LIMIT).await?;
    match process.exit_code() {
        Some(code @ (0 | 1)) if !process.stdout.is_empty() => {
            Ok(Archive { bytes: process.stdout, is_complete: code == 0 })
        }
        Some(_) | None => Err(process.failure()),
    }
}

/// A command that has ended.
struct Process {
    stdout: Vec<u8>,
    stderr: String,
    /// `None` if the connection ended before the command.
    end: Option<Status>,
}

async fn run<const N: usize>(
    api: &Api<Pod>,
    pod: &AgentPod,
    command: [&str; N],
    limit: usize,
) -> Result<Process, Failure> {
    let parameters = AttachParams::default().stdin(false).stdout(true).stderr(true).container("vtep-agent");
    let parameters = parameters.max_stdout_buf_size(BUFFER);
    let mut process = api.exec(&pod.name, command, &parameters).await.map_err(|error| of_error(&error))?;
    let (Some(stdout), Some(stderr), Some(ended)) = (process.stdout(), process.stderr(), process.take_status()) else {
        return Err(Failure::Failed("the exec has no streams".into()));
    };
    let broken = |error: io::Error| Failure::Failed(format!("exec: {}", words::cause(&error)));
    let output = async {
        let mut output = Vec::new();
        stdout.take(limit as u64 + 1).read_to_end(&mut output).await.map_err(broken)?;
        // It must not wait for the other stream, which ends only when this one is read to its end.
        let is_too_long = output.len() > limit;
        if is_too_long {
            Err(Failure::Answer(format!("its answer has more than {} MB", limit >> 20)))
        } else {
            Ok(output)
        }
    };
    let errors = async {
        let mut errors = Vec::new();
        let mut stderr = stderr.take(ERROR_LIMIT);
        stderr.read_to_end(&mut errors).await.map_err(broken)?;
        // What nobody reads would hold up standard output.
        io::copy(&mut stderr.into_inner(), &mut io::sink()).await.map_err(broken)?;
        Ok(errors)
    };
    let (output, errors) = tokio::try_join!(output, errors)?;
    Ok(Process { stdout: output, stderr: String::from_utf8_lossy(&errors).into_owned(), end: ended.await })
}

impl Process {
    fn exit_code(&self) -> Option<i32> {
        let end = self.end.as_ref()?;
        if end.status.as_deref() == Some("Success") {
            return Some(0);
        }
        let causes = end.details.as_ref()?.causes.as_ref()?;
        let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"))?;
        code.message.as_ref()?.parse().ok()
    }

    /// The first line that it printed about an error, or else the words of the kubelet.
    fn failure(&self) -> Failure {
        let lines = || self.stderr.lines().map(str::trim).filter(|line| !line.is_empty());
        let printed = lines().find(|line| line.starts_with("error:")).or_else(|| lines().next());
        let end = self.end.as_ref().and_then(|end| end.message.as_deref()).filter(|message| !message.is_empty());
        let reason = printed.or(end).unwrap_or("it printed nothing");
        Failure::Failed(format!("exec: {}", words::line(reason)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn process(end: serde_json::Value, stderr: &str) -> Process {
        Process { stdout: Vec::new(), stderr: stderr.to_owned(), end: serde_json::from_value(end).ok() }
    }

    #[test]
    fn the_exit_status_is_the_kubelets() {
        let failed = |code: &str| json!({ "status": "Failure", "details": { "causes": [{ "reason": "ExitCode", "message": code }] } });
        assert_eq!(process(json!({ "status": "Success" }), "").exit_code(), Some(0));
        assert_eq!(process(failed("1"), "").exit_code(), Some(1));
        for unknown in [failed("?"), json!({ "status": "Failure" }), json!(null)] {
            assert_eq!(process(unknown, "").exit_code(), None);
        }
    }

    #[test]
    fn the_reason_is_what_it_printed_about_an_error() {
        let words = |end, stderr: &str| {
            let Failure::Failed(words) = process(end, stderr).failure() else { panic!("another way would fail, too") };
            words
        };
        let end = json!({ "message": "command terminated with exit code 2" });
        assert_eq!(words(end.clone(), "missing: log.txt\n\nerror: no disk\n"), "exec: error: no disk");
        assert_eq!(words(end.clone(), "\n"), "exec: command terminated with exit code 2");
        assert_eq!(words(json!(null), "oops\n"), "exec: oops");
        assert_eq!(words(json!(null), ""), "exec: it printed nothing");
    }
}
