//! The whole program.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use tracing::level_filters::LevelFilter;

use crate::*;

/// Cilium's end: it fits [`Device::cilium`].
const CILIUM: &str = "enable-vtep: true
vtep-endpoint: 10.169.72.34
vtep-cidr: 10.1.6.0/24
vtep-mac: 00:50:56:a0:7d:d8
";

/// A directory with the secrets and the certificate of a BIG-IP, and with Cilium's end.
struct Files(tempfile::TempDir);

impl Files {
    fn of(bigip: &BigIp) -> Self {
        let files = Self(tempfile::tempdir().expect("a directory"));
        files.write("password", &format!("{PASSWORD}\n"), 0o600);
        files.write("token", &format!("{TOKEN}\n"), 0o600);
        files.write("ca.pem", bigip.trusted_pem(), 0o644);
        files.write("cilium-config.yaml", CILIUM, 0o644);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).expect("a file");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).expect("a mode");
    }

    fn command(&self, bigip: &BigIp) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
        command.arg("bigip").arg(self.path("cilium-config.yaml"));
        command.args(["--pod-cidr", "10.0.0.0/16", "--node-ip", "10.169.72.239,10.169.72.240"]);
        command.args(["--bigip-url", &bigip.url()]).arg("--bigip-ca").arg(self.path("ca.pem"));
        // Each library would log what it does.
        command.env("RUST_LOG", "trace").env("VTEP_AGENT_LOG_LEVEL", "trace").env("RUST_BACKTRACE", "full");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn with_password(&self, bigip: &BigIp) -> Command {
        let mut command = self.command(bigip);
        command.args(["--bigip-user", USER]).arg("--bigip-password-file").arg(self.path("password"));
        command
    }

    fn with_token(&self, bigip: &BigIp) -> Command {
        let mut command = self.command(bigip);
        command.arg("--bigip-token-file").arg(self.path("token"));
        command
    }
}

fn finish(command: &mut Command) -> Output {
    command.output().expect("the program ends")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}

/// What was logged, by the libraries as well.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Looks for the secrets in every form in which they could leave the process.
fn assert_no_secret(place: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let encoded = BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let escaped = format!("{PASSWORD:?}");
    for secret in [PASSWORD, TOKEN, &encoded, escaped.trim_matches('"'), "pa55word"] {
        assert!(!text.contains(secret), "{place} has {secret}: {text}");
    }
}

#[test]
fn a_bigip_is_read_with_a_password_or_a_token() {
    let bigip = start(Device::cilium());
    let files = Files::of(&bigip);
    for mut command in [files.with_password(&bigip), files.with_token(&bigip)] {
        let output = finish(&mut command);
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
        assert_eq!(stdout(&output), "# bigip-1.example: nothing is missing\n");
    }
    assert!(bigip.requests().iter().all(|request| request.method == "GET"));
}

/// A password manager may write into a pipe.
#[test]
fn a_password_can_come_from_standard_input() {
    let bigip = start(Device::cilium());
    let files = Files::of(&bigip);
    let mut command = files.command(&bigip);
    command.args(["--bigip-user", USER, "--bigip-password-file", "-"]);
    let mut child = command.spawn().expect("the program starts");
    child.stdin.take().expect("a pipe").write_all(PASSWORD.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("the program ends");
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
}

/// While the program waits for the first answer, its arguments and its environment are there for everybody to see.
#[test]
fn no_secret_is_in_the_process_list() {
    let bigip = start(Device::cilium());
    bigip.misbehave(Matcher::all(), Fault::Hang, Times::Always);
    let files = Files::of(&bigip);
    for (n, mut command) in [files.with_password(&bigip), files.with_token(&bigip)].into_iter().enumerate() {
        let child = command.spawn().expect("the program starts");
        bigip.wait_for(n * COLLECTIONS + 1).expect("a request");
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(proc(&child, file)).expect("a process");
            assert!(!bytes.is_empty(), "{file}");
            assert_no_secret(file, &bytes);
        }
        bigip.release();
        let output = child.wait_with_output().expect("the program ends");
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

fn proc(child: &Child, file: &str) -> PathBuf {
    Path::new("/proc").join(child.id().to_string()).join(file)
}

#[test]
fn no_secret_is_in_the_output_whatever_fails() {
    let faults = [
        None,
        Some(Fault::Echo),
        Some(Fault::Forbidden),
        Some(Fault::NotAuthorized),
        Some(Fault::CutConnection),
        Some(Fault::CutJson),
        Some(Fault::LoginPage),
        Some(Fault::Loading(Some(0))),
        Some(Fault::Redirect("https://other.example/".into())),
    ];
    for fault in faults {
        let bigip = start(Device::cilium());
        if let Some(fault) = fault.clone() {
            bigip.misbehave(Matcher::all(), fault, Times::Always);
        }
        let files = Files::of(&bigip);
        for mut command in [files.with_password(&bigip), files.with_token(&bigip)] {
            let output = finish(&mut command);
            assert_eq!(output.status.success(), fault.is_none(), "{fault:?}");
            assert_no_secret("stdout", &output.stdout);
            assert_no_secret("stderr", &output.stderr);
        }
    }
}

/// The command does not log; a caller that does could log at any level.
#[tokio::test]
async fn no_secret_is_logged() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    tracing::trace!("the log works");
    for fault in [None, Some(Fault::Echo)] {
        let bigip = start(Device::cilium());
        if let Some(fault) = fault {
            bigip.misbehave(Matcher::all(), fault, Times::Always);
        }
        let token = Credentials::Token(Secret::parse(TOKEN).expect("a token"));
        for credentials in [password(PASSWORD), token] {
            let fetched = read_as(&bigip, credentials, trust(&bigip)).await;
            assert_no_secret("the result", format!("{fetched:?}").as_bytes());
        }
    }
    drop(guard);
    let log = log.0.lock().expect("the log");
    assert!(String::from_utf8_lossy(&log).contains("the log works"));
    assert_no_secret("the log", &log);
}

#[test]
fn an_error_says_where_and_why() {
    let bigip = start(Device::cilium());
    let files = Files::of(&bigip);
    files.write("password", "wrong", 0o600);
    let output = finish(&mut files.with_password(&bigip));
    assert_eq!(output.status.code(), Some(2));
    let expected =
        format!("error: cannot read {}: it does not accept the user name or the password (401)\n", bigip.url());
    assert_eq!((stderr(&output), stdout(&output)), (expected.as_str(), ""));
}

#[test]
fn a_password_in_the_url_is_not_repeated() {
    let bigip = start(Device::cilium());
    let files = Files::of(&bigip);
    let url = bigip.url().replace("https://", &format!("https://{USER}:pa55word@"));
    for args in [&["--bigip-url", &url][..], &["--bigip-url", &url, "--bigip-timeout", "x"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
        let output = finish(
            command
                .arg("bigip")
                .args(args)
                .args(["--bigip-user", USER])
                .arg("--bigip-password-file")
                .arg(files.path("password")),
        );
        assert!(!output.status.success());
        assert_no_secret("stderr", &output.stderr);
    }
    // Help shows variables with their values.
    let mut command = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
    let output = finish(command.args(["bigip", "--help"]).env("VTEP_AGENT_BIGIP_URL", &url));
    assert!(output.status.success());
    assert_no_secret("help", &output.stdout);
    assert_eq!(bigip.requests(), []);
}

#[test]
fn a_file_that_others_can_read_is_a_warning() {
    let bigip = start(Device::cilium());
    let files = Files::of(&bigip);
    files.write("password", PASSWORD, 0o644);
    let output = finish(&mut files.with_password(&bigip));
    assert_eq!(output.status.code(), Some(0));
    let expected = format!("warning: {} is readable by others (mode 0644)\n", files.path("password").display());
    assert_eq!(stderr(&output), expected);
}

#[test]
fn an_unverified_certificate_is_a_warning_each_time() {
    let bigip = start(Device::cilium());
    let files = Files::of(&bigip);
    let mut command = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
    command.arg("bigip").arg(files.path("cilium-config.yaml"));
    command.args(["--bigip-url", &bigip.url(), "--bigip-insecure"]);
    command.arg("--bigip-token-file").arg(files.path("token"));
    let (url, fingerprint) = (bigip.url(), bigip.fingerprint());
    let expected = format!(
        "warning: --bigip-insecure: nothing shows that {url} is the BIG-IP; whoever answers there gets the password\n"
    );
    for _ in 0..2 {
        let output = finish(&mut command);
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), expected.as_str()));
        assert!(stdout(&output).contains(fingerprint), "{}", stdout(&output));
    }
}

/// The DaemonSet's command has no flag that leads to a BIG-IP's REST interface.
#[test]
fn run_knows_no_address_of_a_bigip() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
    let output = finish(command.args(["run", "--help"]));
    assert!(output.status.success() && !stdout(&output).contains("bigip-url"), "{}", stdout(&output));
    let mut command = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
    let output = finish(command.args(["run", "--bigip-url", "https://192.0.2.10"]));
    assert_eq!(output.status.code(), Some(2));
}
