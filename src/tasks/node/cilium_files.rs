//! Reads the files in which Cilium records its running configuration.
//!
//! Each file may be absent, unreadable or of another version. An unknown value is `None`, and `problem` has the reason.

use std::{fmt, io, path::Path};

use jiff::Timestamp;
use vtep_core::node::running::{Running, RunningConfig, parse_header, parse_runtime_config};

use crate::bounded;

pub(crate) const RUNTIME_CONFIG: &str = "state/agent-runtime-config.json";
/// The constants that Cilium's programs were compiled with (Cilium up to 1.18).
pub(crate) const HEADER: &str = "state/globals/node_config.h";
/// The process id of Cilium's agent.
const PID: &str = "cilium.pid";
/// The maximum length of a file: a hundred times that of Cilium's own.
pub(crate) const MAX_BYTES: u64 = 1 << 20;

/// The result of one read of Cilium's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CiliumFiles {
    pub running: Running,
    /// The reason, in words, why an existing file cannot be used.
    pub problem: Option<String>,
}

impl CiliumFiles {
    /// Reads `<run>/state/agent-runtime-config.json` and `<run>/state/globals/node_config.h`.
    #[must_use]
    pub fn read(cilium_run: &Path) -> Self {
        let of_config = part(&cilium_run.join(RUNTIME_CONFIG), parse_runtime_config);
        let of_header = part(&cilium_run.join(HEADER), |text| Ok(parse_header(text)));
        let problems: Vec<_> = [&of_config, &of_header].into_iter().filter_map(|part| part.as_ref().err()).collect();
        let problem = problems.first().map(ToString::to_string);
        let known = |config: RunningConfig| {
            Running::Known(RunningConfig { started: config.started.or_else(|| started(cilium_run)), ..config })
        };
        let running = match (of_config, of_header) {
            (Ok(Some(config)), header) => known(config.or(header.ok().flatten().unwrap_or_default())),
            (Ok(None), Ok(Some(header))) => known(header),
            (Ok(None), Ok(None)) => Running::Absent,
            (Err(_), _) | (Ok(None), Err(_)) => Running::Unreadable,
        };
        Self { running, problem }
    }
}

/// When Cilium started, by the files that it writes only then, if its configuration does not have the time.
fn started(cilium_run: &Path) -> Option<Timestamp> {
    let modified = |file: &str| cilium_run.join(file).metadata().and_then(|metadata| metadata.modified()).ok();
    modified(PID).or_else(|| modified(RUNTIME_CONFIG))?.try_into().ok()
}

/// Reads one file; `None` if it does not exist, and the reason if it cannot be used.
fn part(
    path: &Path,
    parse: impl FnOnce(&str) -> serde_json::Result<RunningConfig>,
) -> Result<Option<RunningConfig>, String> {
    let why = |error: &dyn fmt::Display| format!("cannot read {}: {error}", path.display());
    match bounded::read_text(path, MAX_BYTES) {
        Ok(text) => parse(&text).map(Some).map_err(|error| why(&format!("it is not JSON: {error}"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(why(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use vtep_core::{config::spec::TunnelProtocol, node::running::RunningVtep};

    use super::*;

    fn read(json: Option<&str>, header: Option<&str>) -> Running {
        read_files(json, header).running
    }

    fn read_files(json: Option<&str>, header: Option<&str>) -> CiliumFiles {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(dir.path().join("state/globals")).expect("a directory");
        for (name, text) in [(RUNTIME_CONFIG, json), (HEADER, header)] {
            if let Some(text) = text {
                fs::write(dir.path().join(name), text).expect("a file");
            }
        }
        write_pid(dir.path());
        CiliumFiles::read(dir.path())
    }

    fn write_pid(dir: &Path) {
        let file = fs::File::create(dir.join(PID)).expect("a file");
        file.set_modified(pid_time().into()).expect("its time");
    }

    fn pid_time() -> Timestamp {
        "2026-11-26T10:00:00Z".parse().expect("a time")
    }

    const REAL: &str = include_str!("../../../tests/fixtures/cilium-1.18/agent-runtime-config.json");
    const REAL_HEADER: &str = include_str!("../../../tests/fixtures/cilium-1.18/node_config.h");

    #[test]
    fn reads_what_a_real_cilium_wrote() {
        let vtep = |network: [u8; 4], endpoint: [u8; 4], mac: [u8; 6]| {
            (network.into(), RunningVtep { endpoint: Some(endpoint.into()), mac: Some(mac.into()) })
        };
        let of_both = RunningConfig {
            started: Some("2026-11-22T09:02:08.641941549Z".parse().expect("a time")),
            vtep_enabled: Some(true),
            vtep_mask: Some([255, 255, 255, 0].into()),
            vteps: Some(
                [
                    vtep([10, 1, 6, 0], [10, 169, 72, 34], [0x00, 0x50, 0x56, 0xa0, 0x7d, 0xd8]),
                    vtep([10, 1, 5, 0], [10, 169, 72, 36], [0x00, 0x50, 0x56, 0x86, 0x6b, 0x28]),
                ]
                .into(),
            ),
            tunnel_protocol: Some(TunnelProtocol::Vxlan),
            tunnel_port: Some(8472),
        };
        let of_json = RunningConfig { tunnel_protocol: None, tunnel_port: None, ..of_both.clone() };
        let of_header = RunningConfig { started: Some(pid_time()), vteps: None, ..of_both.clone() };
        assert_eq!(read(Some(REAL), Some(REAL_HEADER)), Running::Known(of_both));
        assert_eq!(read(Some(REAL), None), Running::Known(of_json));
        assert_eq!(read(None, Some(REAL_HEADER)), Running::Known(of_header));
        assert_eq!(read(None, None), Running::Absent);
    }

    #[test]
    fn what_is_not_told_is_not_known() {
        let known = |config| Running::Known(RunningConfig { started: Some(pid_time()), ..config });
        let only_enabled = RunningConfig { vtep_enabled: Some(true), ..RunningConfig::default() };
        let newer = r#"{"EnableVTEP": true, "VtepCidrMask": "", "VtepCIDRs": null, "Other": [1]}"#;
        assert_eq!(read(Some(newer), None), known(only_enabled));
        let odd = RunningConfig { vteps: Some(BTreeMap::new()), ..RunningConfig::default() };
        assert_eq!(read(Some(r#"{"EnableVTEP": "yes", "VtepCIDRs": [7]}"#), None), known(odd));
        assert_eq!(read(Some("{\"EnableVTEP\": tr"), Some(REAL_HEADER)), Running::Unreadable);
        assert_eq!(read(None, Some("")), known(RunningConfig::default()));
        assert_eq!(CiliumFiles::read(Path::new("/nonexistent")), CiliumFiles::default());
    }

    /// Its configuration has the time of the start; without it, its process id was written then, and without that the configuration.
    #[test]
    fn the_start_is_known_from_one_of_two_files() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let started = || CiliumFiles::read(dir.path()).running.config().and_then(|config| config.started);
        let write = |text: &str| {
            let path = dir.path().join(RUNTIME_CONFIG);
            fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            fs::write(&path, text).expect("a file");
            let modified = fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("its time");
            Timestamp::try_from(modified).expect("a time")
        };
        assert_eq!(started(), None);
        let modified = write(r#"{"EnableVTEP": true, "CreationTime": 5}"#);
        assert_eq!(started(), Some(modified));
        write_pid(dir.path());
        assert_eq!(started(), Some(pid_time()));
        write(r#"{"CreationTime": "2026-11-26T11:00:00.5+01:00"}"#);
        assert_eq!(started().map(|time| time.to_string()).as_deref(), Some("2026-11-26T10:00:00.5Z"));
    }

    #[test]
    fn why_a_file_says_nothing_is_said() {
        let problem = |json: Option<&str>, header: Option<&str>| {
            let CiliumFiles { running, problem } = read_files(json, header);
            (running, problem.unwrap_or_default())
        };
        let (running, words) = problem(Some("{\"EnableVTEP\": tr"), None);
        assert_eq!(running, Running::Unreadable);
        assert!(words.contains(RUNTIME_CONFIG) && words.contains("it is not JSON: "), "{words}");

        let long = " ".repeat(1 + MAX_BYTES as usize);
        let (running, words) = problem(Some(&long), Some(REAL_HEADER));
        assert_eq!(running, Running::Unreadable);
        assert!(words.contains("it has more than 1048576 bytes"), "{words}");
        // The values of one file remain known if the other cannot be read.
        let (running, words) = problem(Some(REAL), Some(&long));
        assert!(matches!(running, Running::Known(RunningConfig { vtep_enabled: Some(true), tunnel_port: None, .. })));
        assert!(words.contains(HEADER), "{words}");
        assert_eq!(problem(None, Some(&long)).0, Running::Unreadable, "a file is there");
        assert_eq!(read_files(Some(REAL), Some(REAL_HEADER)).problem, None);
    }
}
