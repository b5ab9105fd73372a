//! `vtep-agent version`: what was built.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use super::Format;
use crate::build_info::BuildInfo;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  vtep-agent version -o json\n\nExit status: 0.")]
pub struct Args {
    /// Text for people, or JSON for programs.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

/// # Errors
///
/// The output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let build = BuildInfo::this();
    let text = match args.output {
        Format::Text => text(&build),
        Format::Json => serde_json::to_string_pretty(&build)? + "\n",
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn text(build: &BuildInfo) -> String {
    let BuildInfo { version, commit, built_at, target } = build;
    let built_at = built_at.map_or_else(|| "not recorded".to_owned(), |at| at.to_string());
    let commit = commit.unwrap_or("not recorded");
    format!("version  {version}\ncommit   {commit}\nbuilt    {built_at}\ntarget   {target}\n")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn unknown_values_are_said_to_be() {
        let build = BuildInfo { version: "1.2.3", commit: None, built_at: None, target: "x86_64-unknown-linux-gnu" };
        let expected =
            "version  1.2.3\ncommit   not recorded\nbuilt    not recorded\ntarget   x86_64-unknown-linux-gnu\n";
        assert_eq!(text(&build), expected);
        let build = BuildInfo { commit: Some("abc"), built_at: Some(Timestamp::UNIX_EPOCH), ..build };
        assert!(text(&build).contains("commit   abc\nbuilt    1970-01-01T00:00:00Z\n"));
    }
}
