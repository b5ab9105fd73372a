//! Flags that name a BIG-IP, for commands that a person starts: its address, and who asks.

use std::{
    fmt,
    fs::File,
    io::{self, IsTerminal, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};

use super::run::between;
use crate::{
    bounded,
    icontrol::{self, Credentials, Fetched, Secret, Server, Trust},
};

/// The maximum length of a password or token, in bytes.
const MAX_SECRET: u64 = 4 << 10;
/// The maximum length of the file with certificates, in bytes.
const MAX_CERTIFICATES: u64 = 1 << 20;

/// A BIG-IP whose configuration is read over its REST interface. There is no flag and no variable for the password itself: others could see
/// it among the processes, in the shell's history, or in the job's log.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "bigip_address")]
pub struct BigIpAddress {
    /// A BIG-IP to compare with, `https://HOST[:PORT]` without a password: its tunnels are read with GET over iControl REST, and nothing is
    /// changed.
    #[arg(
        id = "bigip_url",
        long = "bigip-url",
        value_name = "URL",
        env = "VTEP_AGENT_BIGIP_URL",
        hide_env_values = true
    )]
    url: Option<Unchecked>,
    /// The user to read as; the role `guest` in all partitions suffices.
    #[arg(id = "bigip_user", long = "bigip-user", value_name = "NAME", env = "VTEP_AGENT_BIGIP_USER")]
    #[arg(requires = "bigip_url")]
    user: Option<String>,
    /// The file that contains the user's password, or `-` for standard input.
    #[arg(id = "bigip_password_file", long = "bigip-password-file", value_name = "FILE")]
    #[arg(env = "VTEP_AGENT_BIGIP_PASSWORD_FILE", requires = "bigip_url")]
    password_file: Option<PathBuf>,
    /// The file that contains a token, or `-` for standard input; in place of user and password.
    #[arg(id = "bigip_token_file", long = "bigip-token-file", value_name = "FILE")]
    #[arg(env = "VTEP_AGENT_BIGIP_TOKEN_FILE", requires = "bigip_url")]
    token_file: Option<PathBuf>,
    /// A PEM file with the authority that signed the BIG-IP's certificate, or with that certificate itself; without it, the authorities of
    /// this machine count.
    #[arg(
        id = "bigip_ca",
        long = "bigip-ca",
        value_name = "FILE",
        env = "VTEP_AGENT_BIGIP_CA",
        requires = "bigip_url"
    )]
    ca: Option<PathBuf>,
    /// Accept any certificate: whoever answers gets the password. Each use prints a warning.
    #[arg(id = "bigip_insecure", long = "bigip-insecure", requires = "bigip_url", conflicts_with = "bigip_ca")]
    insecure: bool,
    /// How long the BIG-IP may take for one answer, 100ms to 5m; all answers together may take three times as long.
    #[arg(id = "bigip_timeout", long = "bigip-timeout", value_name = "DURATION", default_value = "10s")]
    #[arg(value_parser = timeout, env = "VTEP_AGENT_BIGIP_TIMEOUT")]
    timeout: Duration,
}

/// A URL before its check. clap quotes a value that its parser refuses, so the check comes after clap, in case there is a password in it.
#[derive(Clone)]
struct Unchecked(String);

impl fmt::Debug for Unchecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(a URL)")
    }
}

impl From<String> for Unchecked {
    fn from(url: String) -> Self {
        Self(url)
    }
}

/// Reads the BIG-IP that the flags name, and prints a warning if its certificate is not verified, or if others can read the password.
///
/// # Errors
///
/// The flags do not fit each other, or the BIG-IP cannot be read. No text contains the password or the token.
pub async fn fetch(address: &BigIpAddress) -> anyhow::Result<Fetched> {
    let server = address.server()?;
    let trust = address.trust()?;
    let credentials = address.credentials()?;
    if matches!(trust, Trust::Anything) && server.is_encrypted() {
        warn(&format!(
            "--bigip-insecure: nothing shows that {server} is the BIG-IP; whoever answers there gets the password"
        ))?;
    }
    let fetched = icontrol::read(&server, credentials, trust, address.timeout).await;
    fetched.with_context(|| format!("cannot read {server}"))
}

impl BigIpAddress {
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.url.is_some()
    }

    /// Whether the password or the token comes from standard input, so that nothing else can.
    #[must_use]
    pub fn reads_stdin(&self) -> bool {
        [&self.password_file, &self.token_file].into_iter().flatten().any(|path| path == Path::new("-"))
    }

    fn server(&self) -> anyhow::Result<Server> {
        let Some(Unchecked(url)) = &self.url else { bail!("--bigip-url is missing") };
        Server::parse(url).context("--bigip-url")
    }

    fn credentials(&self) -> anyhow::Result<Credentials> {
        match (&self.user, &self.password_file, &self.token_file) {
            (None, None, Some(file)) => Ok(Credentials::Token(secret(file).context("--bigip-token-file")?)),
            (Some(user), Some(file), None) => {
                ensure!(
                    !user.contains(':'),
                    "--bigip-user: BIG-IP's basic authentication has no user name with a colon"
                );
                let password = secret(file).context("--bigip-password-file")?;
                Ok(Credentials::Password { user: user.clone(), password })
            }
            (_, _, Some(_)) => {
                bail!("give --bigip-token-file, or --bigip-user and --bigip-password-file, but not both")
            }
            (_, _, None) => bail!("--bigip-url needs --bigip-user and --bigip-password-file, or --bigip-token-file"),
        }
    }

    fn trust(&self) -> anyhow::Result<Trust> {
        match &self.ca {
            _ if self.insecure => Ok(Trust::Anything),
            None => Ok(Trust::System),
            Some(path) => {
                let certificates = || anyhow::Ok(icontrol::authorities(&bounded::read_file(path, MAX_CERTIFICATES)?)?);
                let found =
                    certificates().with_context(|| format!("--bigip-ca: no certificate in {}", path.display()))?;
                Ok(Trust::Authorities(found))
            }
        }
    }
}

/// Reads a password or a token. A pipe is accepted, too: a password manager may write into one.
fn secret(path: &Path) -> anyhow::Result<Secret> {
    let named = || format!("failed to read {}", path.display());
    let bytes = if path == Path::new("-") {
        ensure!(!io::stdin().is_terminal(), "standard input is a terminal, which would show it: give a file or a pipe");
        bounded::read(io::stdin(), MAX_SECRET).context("failed to read standard input")?
    } else {
        let file = File::open(path).with_context(named)?;
        let metadata = file.metadata().with_context(named)?;
        let mode = metadata.permissions().mode();
        if metadata.is_file() && mode & 0o044 != 0 {
            warn(&format!("{} is readable by others (mode {:04o})", path.display(), mode & 0o7777))?;
        }
        bounded::read(file, MAX_SECRET).with_context(named)?
    };
    // The error of from_utf8 has the bytes in it, so it goes no further.
    let Ok(text) = String::from_utf8(bytes) else { bail!("it is not text in UTF-8") };
    Ok(Secret::parse(&text)?)
}

fn warn(text: &str) -> io::Result<()> {
    writeln!(io::stderr(), "warning: {text}")
}

fn timeout(text: &str) -> Result<Duration, String> {
    between(text, Duration::from_millis(100), Duration::from_secs(300))
}

#[cfg(test)]
mod tests {
    use clap::{Parser, error::ErrorKind};

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        bigip: BigIpAddress,
    }

    fn parse(args: &[&str]) -> Result<BigIpAddress, clap::Error> {
        Command::try_parse_from(["command"].iter().chain(args)).map(|command| command.bigip)
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        let address = parse(&["--bigip-url", "https://admin:hunter2@192.0.2.10"]).expect("arguments");
        let error = address.server().expect_err("refused");
        assert_eq!(
            format!("{error:#}"),
            "--bigip-url: it contains a user name or a password: remove them, and give --bigip-user and --bigip-password-file"
        );
        assert!(!format!("{address:?} {error:?}").contains("hunter2"));
    }

    #[test]
    fn either_a_password_or_a_token() {
        let url = ["--bigip-url", "https://192.0.2.10"];
        let table = [
            (&[][..], "--bigip-url needs --bigip-user and --bigip-password-file, or --bigip-token-file"),
            (
                &["--bigip-user", "reader"],
                "--bigip-url needs --bigip-user and --bigip-password-file, or --bigip-token-file",
            ),
            (
                &["--bigip-password-file", "p"],
                "--bigip-url needs --bigip-user and --bigip-password-file, or --bigip-token-file",
            ),
            (
                &["--bigip-user", "reader", "--bigip-token-file", "t"],
                "give --bigip-token-file, or --bigip-user and --bigip-password-file, but not both",
            ),
            (
                &["--bigip-user", "a:b", "--bigip-password-file", "p"],
                "--bigip-user: BIG-IP's basic authentication has no user name with a colon",
            ),
            (
                &["--bigip-token-file", "/nowhere"],
                "--bigip-token-file: failed to read /nowhere: No such file or directory (os error 2)",
            ),
        ];
        for (args, expected) in table {
            let address = parse(&[&url, args].concat()).expect("arguments");
            let error = address.credentials().expect_err("refused");
            assert_eq!(format!("{error:#}"), expected, "{args:?}");
        }
    }

    #[test]
    fn flags_about_a_bigip_need_its_address() {
        for args in [&["--bigip-user", "reader"][..], &["--bigip-password-file", "p"], &["--bigip-insecure"]] {
            let error = parse(args).expect_err("no address");
            assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument, "{args:?}");
        }
        assert!(!parse(&[]).expect("no flag is needed").is_given());
    }

    #[test]
    fn standard_input_has_one_use() {
        let url = ["--bigip-url", "https://192.0.2.10"];
        let reads = |args: &[&str]| parse(&[&url, args].concat()).expect("arguments").reads_stdin();
        assert!(reads(&["--bigip-password-file", "-"]) && reads(&["--bigip-token-file", "-"]));
        assert!(!reads(&["--bigip-password-file", "./-"]) && !reads(&[]));
    }
}
