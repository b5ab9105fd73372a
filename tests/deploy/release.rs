//! The scripts of a release, and what they make.

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write,
    net::TcpListener,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::tools::{read, root};

/// Runs a command, which must succeed.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("failed to run {command:?}"))?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

/// A copy of the files that Git knows, in a repository of its own.
fn copy() -> Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    let listed = run(Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root()))?;
    for path in listed.split_terminator('\0') {
        let (from, to) = (root().join(path), dir.path().join(path));
        // A file that is deleted and not committed yet.
        if from.is_file() {
            fs::create_dir_all(to.parent().context("a directory")?)?;
            fs::copy(from, to)?;
        }
    }
    Ok(dir)
}

#[test]
fn a_version_has_all_its_places() -> Result<()> {
    let dir = copy()?;
    let version = |new: &str| {
        let mut command = Command::new("bash");
        command.args(["scripts/version", new]).current_dir(dir.path()).env("DATE", "2027-01-31");
        command.output()
    };
    for wrong in ["", "1.2", "v1.2.3", "1.2.3 x", "0.1.0"] {
        ensure!(!version(wrong)?.status.success(), "{wrong:?} is a version");
    }
    let output = version("7.8.9-rc.1")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |path: &str| fs::read_to_string(dir.path().join(path)).context(path.to_owned());
    for (path, text) in [
        ("Cargo.toml", "version = \"7.8.9-rc.1\""),
        ("fuzz/Cargo.toml", "version = \"7.8.9-rc.1\""),
        ("deploy/helm/vtep-agent/Chart.yaml", "\nversion: 7.8.9-rc.1\nappVersion: 7.8.9-rc.1\n"),
        ("deploy/vtep-agent.yaml", "image: \"vtep-agent:7.8.9-rc.1\""),
        ("deploy/README.md", "newTag: \"7.8.9-rc.1\""),
        ("README.md", "vtep-agent 7.8.9-rc.1, enforce"),
        ("README.zh-CN.md", "vtep-agent 7.8.9-rc.1, enforce"),
        ("docs/check.md", "/releases/download/v7.8.9-rc.1"),
        ("docs/platforms/air-gapped.md", "vtep-agent-7.8.9-rc.1.oci.tar"),
        ("CHANGELOG.md", "## [Unreleased]\n\n## [7.8.9-rc.1] - 2027-01-31\n"),
    ] {
        ensure!(read(path)?.contains(text), "{path} lacks {text}");
    }
    // Cargo accepts the lists of dependencies as they are.
    run(Command::new("cargo").args(["tree", "--offline", "--locked", "--depth=0"]).current_dir(dir.path()))?;
    // The old version is left only where it is history.
    let old = env!("CARGO_PKG_VERSION");
    for path in ["README.md", "README.zh-CN.md", "deploy/README.md", "deploy/vtep-agent.yaml", "docs/check.md"] {
        let is_old = |line: &&str| {
            line.match_indices(old).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_ascii_digit() || c == '.'))
        };
        let left: Vec<_> = read(path)?.lines().filter(is_old).map(str::to_owned).collect();
        ensure!(left.is_empty(), "{path}: {left:?}");
    }
    Ok(())
}

/// An archive of an image with these files, from a directory of this name.
fn image(dir: &Path, name: &str, mode: u32) -> Result<(String, PathBuf)> {
    let files = dir.join(name);
    fs::create_dir_all(files.join("usr/local/bin"))?;
    for program in ["vtep-agent", "another"] {
        let path = files.join("usr/local/bin").join(program);
        fs::write(&path, "a program")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    let archive = dir.join(format!("{name}.tar"));
    let path = files.display();
    let digest = run(Command::new(root().join("scripts/oci"))
        .arg(&archive)
        .arg("localhost/vtep-agent:1")
        .args([format!("linux/amd64={path}"), format!("linux/arm64={path}")])
        .envs([("SOURCE_DATE_EPOCH", "1700000000"), ("VERSION", "1"), ("REVISION", "abc")]))?;
    Ok((digest.trim().to_owned(), archive))
}

/// A file in an archive.
fn entry(archive: &Path, path: &str) -> Result<Vec<u8>> {
    let output = Command::new("tar").arg("-xOf").arg(archive).arg(format!("./{path}")).output()?;
    ensure!(output.status.success(), "no {path} in {}", archive.display());
    Ok(output.stdout)
}

fn json(archive: &Path, path: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&entry(archive, path)?)?)
}

/// The document with this digest.
fn blob(archive: &Path, descriptor: &Value) -> Result<Value> {
    let digest = descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).context("a digest")?;
    json(archive, &format!("blobs/sha256/{digest}"))
}

#[test]
fn the_same_files_give_the_same_image() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // Another folder, another moment, another umask.
    let (first, archive) = image(dir.path(), "first", 0o755)?;
    let (second, other) = image(dir.path(), "another folder", 0o700)?;
    ensure!(first == second, "{first} and {second}");
    ensure!(fs::read(&archive)? == fs::read(other)?, "the archives differ");
    let files = dir.path().join("first/usr/local/bin/vtep-agent");
    fs::write(files, "another program")?;
    let path = dir.path().join("first");
    let changed = run(Command::new(root().join("scripts/oci"))
        .arg(dir.path().join("changed.tar"))
        .args([
            "localhost/vtep-agent:1",
            &format!("linux/amd64={}", path.display()),
            &format!("linux/arm64={}", path.display()),
        ])
        .envs([("SOURCE_DATE_EPOCH", "1700000000"), ("VERSION", "1"), ("REVISION", "abc")]))?;
    ensure!(changed.trim() != first, "another program, and the same digest");
    is_an_index(&archive, &first, &["amd64", "arm64"])
}

/// The archive has one image for each platform, each with the agent's entry point.
fn is_an_index(archive: &Path, digest: &str, architectures: &[&str]) -> Result<()> {
    ensure!(json(archive, "oci-layout")?["imageLayoutVersion"] == "1.0.0");
    let top = &json(archive, "index.json")?["manifests"];
    ensure!(top.as_array().is_some_and(|images| images.len() == 1) && top[0]["digest"] == digest, "{top}");
    let index = blob(archive, &top[0])?;
    let images = index["manifests"].as_array().context("an index")?;
    let mut found = Vec::new();
    for image in images {
        let config = blob(archive, &blob(archive, image)?["config"])?;
        ensure!(config["architecture"] == image["platform"]["architecture"], "{config}");
        ensure!(
            config["config"]["Entrypoint"][0] == "/usr/local/bin/vtep-agent" && config["config"]["Cmd"][0] == "run"
        );
        found.push(config["architecture"].as_str().context("an architecture")?.to_owned());
    }
    ensure!(found == architectures, "{found:?}");
    Ok(())
}

/// The same lines as a job runs them, with a release that this test serves.
#[test]
fn the_job_in_the_document_finds_the_program_and_the_error() -> Result<()> {
    let document = read("docs/check.md")?;
    let job = document.split("```yaml\ncheck-cilium-config:").nth(1).and_then(|rest| rest.split("```").next());
    let job: Value = serde_saphyr::from_str(&format!("job:{}", job.context("a job")?))?;
    let lines: Vec<_> = job["job"]["script"].as_array().context("a script")?.iter().filter_map(Value::as_str).collect();
    ensure!(lines.len() == 4, "{lines:?}");
    let github = document.split("jobs:\n  cilium-config:").nth(1).context("a job for GitHub")?;
    for line in &lines[..2] {
        ensure!(github.contains(line), "the job for GitHub lacks {line}");
    }

    let program = fs::read(env!("CARGO_BIN_EXE_vtep-agent"))?;
    let sums = |program: &[u8]| -> Result<String> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), program)?;
        let sum = run(Command::new("sha256sum").arg(file.path()))?;
        Ok(format!("{}  vtep-agent-linux-amd64\n", sum.split(' ').next().unwrap_or_default()))
    };
    let address = serve([("vtep-agent-linux-amd64", program.clone()), ("SHA256SUMS", sums(&program)?.into_bytes())])?;
    let broken = serve([("vtep-agent-linux-amd64", program), ("SHA256SUMS", sums(b"another")?.into_bytes())])?;

    let job = |address: &str| -> Result<(Option<i32>, String)> {
        let dir = tempfile::tempdir()?;
        symlink(root().join("examples"), dir.path().join("examples"))?;
        // A job may write there; this machine's own directory stays as it is.
        let bin = dir.path().join("bin");
        fs::create_dir(&bin)?;
        let script = lines.join("\n").replace("/usr/local/bin", &bin.display().to_string());
        let output = Command::new("sh")
            .args(["-ec", &script])
            .current_dir(dir.path())
            .env("RELEASE", address)
            .env("PATH", format!("{}:{}", bin.display(), env::var("PATH")?))
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok((output.status.code(), said))
    };
    let (code, said) = job(&address)?;
    ensure!(code == Some(1) && said.contains("vtep-mac-multicast"), "{code:?}: {said}");
    let (code, said) = job(&broken)?;
    ensure!(code != Some(0) && !said.contains("vtep-mac"), "a program of somebody else ran: {said}");
    Ok(())
}

/// Serves these files over HTTP as long as the test runs.
fn serve<const N: usize>(files: [(&'static str, Vec<u8>); N]) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = std::io::BufReader::new(&stream);
            let mut request = String::new();
            while std::io::BufRead::read_line(&mut reader, &mut request).is_ok_and(|read| read > 2) {}
            let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
            let body = files.iter().find(|(name, _)| *name == path).map_or(&[][..], |(_, body)| body);
            let status = if body.is_empty() { "404 Not Found" } else { "200 OK" };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(body));
        }
    });
    Ok(address)
}

/// `make release` calls it.
mod dist {
    use super::*;

    fn dist() -> Result<(PathBuf, String)> {
        let dir = env::var_os("VTEP_DIST").context("VTEP_DIST names no directory: run `make release`")?;
        Ok((dir.into(), env::var("VTEP_DIST_VERSION")?))
    }

    #[test]
    #[ignore = "make release"]
    fn has_every_file_with_its_checksum() -> Result<()> {
        let (dist, version) = dist()?;
        let sums = fs::read_to_string(dist.join("SHA256SUMS"))?;
        run(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&dist))?;
        let listed: BTreeSet<_> = sums.lines().filter_map(|line| Some(line.split_once("  ")?.1.to_owned())).collect();
        for name in [
            "RELEASE-NOTES.md",
            "THIRD-PARTY",
            "vtep-agent.yaml",
            "vtep-agent-alerts.yaml",
            "vtep-agent-dashboard.json",
            &format!("vtep-agent-{version}.oci.tar"),
            &format!("vtep-agent-{version}.digest"),
            &format!("vtep-agent-{version}.tgz"),
            &format!("vtep-agent-{version}.chart.oci.tar"),
        ] {
            ensure!(listed.contains(name), "no {name} in {listed:?}");
        }
        let programs: Vec<_> = listed.iter().filter(|name| name.starts_with("vtep-agent-linux-")).collect();
        ensure!(
            programs.iter().filter(|name| !name.ends_with(".cdx.json")).count() * 2 == programs.len(),
            "{programs:?}"
        );
        ensure!(!programs.is_empty() && fs::read_to_string(dist.join("RELEASE-NOTES.md"))?.contains("### "));
        Ok(())
    }

    #[test]
    #[ignore = "make release"]
    fn has_one_version() -> Result<()> {
        let (dist, version) = dist()?;
        let own =
            dist.join(if cfg!(target_arch = "aarch64") { "vtep-agent-linux-arm64" } else { "vtep-agent-linux-amd64" });
        ensure!(run(Command::new(own).arg("--version"))?.contains(&version), "the program");
        let chart = dist.join(format!("vtep-agent-{version}.tgz"));
        let chart = chart.to_str().context("a path of UTF-8")?;
        let shown = crate::tools::run_well("helm", &["show", "chart", chart])?;
        let shown: Value = serde_saphyr::from_str(&shown)?;
        ensure!(shown["version"] == *version && shown["appVersion"] == *version, "{shown}");
        let annotations = &shown["annotations"];
        for list in ["artifacthub.io/images", "artifacthub.io/changes"] {
            let items: Value = serde_saphyr::from_str(annotations[list].as_str().context(list)?)?;
            ensure!(items.as_array().is_some_and(|items| !items.is_empty()), "{list}: {items}");
        }
        let rendered =
            crate::tools::run_well("helm", &["template", "vtep-agent", chart, "--namespace", "kube-system"])?;
        let image = format!("/vtep-agent:{version}\"");
        ensure!(rendered.contains(&image) && fs::read_to_string(dist.join("vtep-agent.yaml"))?.contains(&image));
        Ok(())
    }

    #[test]
    #[ignore = "make release"]
    fn has_an_image_for_each_program() -> Result<()> {
        let (dist, version) = dist()?;
        let exists = |architecture: &&&str| dist.join(format!("vtep-agent-linux-{architecture}")).exists();
        let architectures: Vec<_> = ["amd64", "arm64"].iter().filter(exists).copied().collect();
        ensure!(!architectures.is_empty(), "no program");
        // A single image needs no index.
        if architectures.len() > 1 {
            let digest = fs::read_to_string(dist.join(format!("vtep-agent-{version}.digest")))?;
            is_an_index(&dist.join(format!("vtep-agent-{version}.oci.tar")), digest.trim(), &architectures)?;
        }
        Ok(())
    }

    /// Each archive of the plug-in is in krew's manifest with its sum, and has the program of that platform.
    #[test]
    #[ignore = "make release"]
    fn krew_finds_the_plugin() -> Result<()> {
        let (dist, version) = dist()?;
        let manifest = fs::read_to_string(dist.join("vtep.krew.yaml"))?;
        ensure!(!manifest.contains("OWNER") && !manifest.contains("TagName"), "{manifest}");
        let spec = serde_saphyr::from_str::<Value>(&manifest)?["spec"].take();
        ensure!(spec["version"] == format!("v{version}"), "{}", spec["version"]);
        let sums = fs::read_to_string(dist.join("SHA256SUMS"))?;
        let mut found = 0;
        for platform in spec["platforms"].as_array().context("platforms")? {
            let name = platform["uri"].as_str().and_then(|uri| uri.rsplit('/').next()).context("a file")?;
            if !dist.join(name).exists() {
                continue;
            }
            let sum = platform["sha256"].as_str().context("a sum")?;
            ensure!(sums.lines().any(|line| line == format!("{sum}  {name}")), "{name} has another sum than {sum}");
            let output = Command::new("tar").arg("-xzOf").arg(dist.join(name)).arg("kubectl-vtep").output()?;
            let architecture = platform["selector"]["matchLabels"]["arch"].as_str().context("an architecture")?;
            let program = fs::read(dist.join(format!("vtep-agent-linux-{architecture}")))?;
            ensure!(output.stdout == program, "{name} has another program");
            found += 1;
        }
        ensure!(found > 0, "no archive of the plug-in");
        Ok(())
    }

    #[test]
    #[ignore = "make release"]
    fn names_its_dependencies() -> Result<()> {
        let (dist, _) = dist()?;
        let mut found = 0;
        for file in
            fs::read_dir(&dist)?.flatten().filter(|file| file.file_name().to_string_lossy().ends_with(".cdx.json"))
        {
            let list: Value = serde_json::from_str(&fs::read_to_string(file.path())?)?;
            let names: BTreeSet<_> = list["components"]
                .as_array()
                .context("components")?
                .iter()
                .filter_map(|part| part["name"].as_str())
                .collect();
            ensure!(["tokio", "rustls", "kube-client", "aya"].iter().all(|name| names.contains(name)), "{names:?}");
            ensure!(!names.contains("proptest"), "a dependency of tests");
            found += 1;
        }
        ensure!(found > 0, "no list");
        let licenses = fs::read_to_string(dist.join("THIRD-PARTY"))?;
        ensure!(
            ["tokio ", "ring ", "aya-ebpf "].iter().all(|name| licenses.contains(&format!("\n{name}"))),
            "THIRD-PARTY"
        );
        Ok(())
    }
}
