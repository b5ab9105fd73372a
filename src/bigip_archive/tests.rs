use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use tar::{Builder, EntryType, Header};

use super::*;

const CONF: &str = "#TMSH-VERSION: 15.1.0.2\n\nnet route /Common/r {\n    gw 10.1.1.9\n    network 10.0.0.0/8\n}\n";

fn header(kind: EntryType, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(0o644);
    header
}

/// A member with this path as it is, which `Builder` would refuse to write.
fn add(tar: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, content: &[u8]) {
    let mut header = header(kind, content.len());
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    if kind.is_symlink() || kind.is_hard_link() {
        header.set_link_name("/etc/passwd").expect("a short name");
    }
    header.set_cksum();
    tar.append(&header, content).expect("a Vec takes all");
}

fn tar(members: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (path, content) in members {
        add(&mut tar, EntryType::Regular, path, content.as_bytes());
    }
    tar.into_inner().expect("a Vec takes all")
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(bytes).expect("a Vec takes all");
    gz.finish().expect("a Vec takes all")
}

fn names(bytes: &[u8]) -> Vec<String> {
    load("a.ucs", bytes).expect("it is read").iter().map(|text| text.name.to_string()).collect()
}

fn error(bytes: &[u8]) -> String {
    format!("{:#}", anyhow::Error::from(load("a.ucs", bytes).expect_err("it is refused")))
}

#[test]
fn the_configuration_of_an_archive() {
    let members = [
        ("SPEC-Manifest", "x"),
        ("config/bigip.conf", CONF),
        ("./config/bigip_base.conf", "sys global-settings {\n    hostname a\n}\n"),
        ("config/partitions/dmz/bigip.conf", ""),
        ("config/partitions/dmz/bigip_base.conf", ""),
        ("config/bigip_gtm.conf", "x"),
        ("config/bigip.conf.bak", "x"),
        ("var/config/bigip.conf", "x"),
        ("config/partitions/a/b/bigip.conf", "x"),
    ];
    let bytes = tar(&members);
    let expected = [
        "a.ucs!config/bigip.conf",
        "a.ucs!config/bigip_base.conf",
        "a.ucs!config/partitions/dmz/bigip.conf",
        "a.ucs!config/partitions/dmz/bigip_base.conf",
    ];
    assert_eq!(names(&bytes), expected);
    assert_eq!(names(&gz(&bytes)), expected);
    let texts = load("a.ucs", &gz(&bytes)).expect("it is read");
    assert_eq!(texts[0].text, CONF);
    let texts: Vec<_> = texts.iter().map(|text| (Arc::clone(&text.name), text.text.as_str())).collect();
    let read = vtep_core::bigip::read(&texts);
    assert_eq!((read.devices.len(), read.devices[0].name.as_str(), read.devices[0].routes.len()), (1, "a", 1));
    assert_eq!(read.devices[0].covered.len(), 5);
}

#[test]
fn texts() {
    for bytes in [CONF.as_bytes().to_vec(), gz(CONF.as_bytes())] {
        assert_eq!(
            load("a.conf", &bytes).expect("it is read"),
            [Text { name: "a.conf".into(), text: CONF.to_owned() }]
        );
    }
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain("né\r\n".encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert_eq!(load("a", &utf16).expect("it is read")[0].text, "né\r\n");
    assert_eq!(load("a", b"caf\xe9 {").expect("it is read")[0].text, "caf\u{fffd} {");
    assert_eq!(load("a", "été".as_bytes()).expect("it is read")[0].text, "été");
    assert_eq!(load("a", b"").expect("it is read")[0].text, "");
    assert!(error(b"PK\x03\x04\0\0").contains("neither text"));
}

#[test]
fn encrypted_archives() {
    for bytes in
        [&b"Salted__12345678"[..], b"\x8c\x0d\x04\x09\x03\x02", b"\xc3\x0d\x04\x09", b"-----BEGIN PGP MESSAGE-----\n"]
    {
        assert!(error(bytes).contains("encrypted"), "{bytes:?}");
    }
}

#[test]
fn paths_and_links_reach_nothing() {
    let mut bytes = Builder::new(Vec::new());
    for path in
        ["../config/bigip.conf", "/config/bigip.conf", "config/../config/bigip.conf", "config/partitions/../bigip.conf"]
    {
        add(&mut bytes, EntryType::Regular, path, b"net self a { }\n");
    }
    for kind in
        [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Block, EntryType::Fifo, EntryType::Directory]
    {
        add(&mut bytes, kind, "config/bigip.conf", b"");
    }
    let bytes = bytes.into_inner().expect("a Vec takes all");
    assert!(error(&bytes).contains("no config/bigip.conf"));
}

#[test]
fn long_paths() {
    let partition = "p".repeat(120);
    let path = format!("config/partitions/{partition}/bigip.conf");
    let mut gnu = Builder::new(Vec::new());
    gnu.append_data(&mut header(EntryType::Regular, CONF.len()), &path, CONF.as_bytes()).expect("a Vec takes all");
    assert_eq!(names(&gnu.into_inner().expect("a Vec takes all")), [format!("a.ucs!{path}")]);
    let mut pax = Builder::new(Vec::new());
    let record = format!("{} path={path}\n", path.len() + 10);
    add(&mut pax, EntryType::XHeader, "x", format!("20 mtime=1700000000\n{record}").as_bytes());
    add(&mut pax, EntryType::Regular, "config/partitions/cut", CONF.as_bytes());
    assert_eq!(names(&pax.into_inner().expect("a Vec takes all")), [format!("a.ucs!{path}")]);
    // A path that is no path, before a file that has its own.
    let mut large = Builder::new(Vec::new());
    add(&mut large, EntryType::GNULongName, "x", &vec![b'a'; 1 << 20]);
    add(&mut large, EntryType::Regular, "config/bigip.conf", CONF.as_bytes());
    assert_eq!(names(&large.into_inner().expect("a Vec takes all")), ["a.ucs!config/bigip.conf"]);
}

#[test]
fn an_archive_that_is_cut_off_or_damaged() {
    let bytes = gz(&tar(&[("config/bigip.conf", CONF), ("config/bigip_base.conf", CONF)]));
    for length in [20, bytes.len() / 2, bytes.len() - 9, bytes.len() - 1] {
        assert!(error(&bytes[..length]).contains("failed to unpack"), "{length}");
    }
    let mut damaged = bytes.clone();
    let checksum = damaged.len() - 6;
    damaged[checksum] ^= 1;
    assert!(error(&damaged).contains("failed to unpack"));
    let plain = tar(&[("config/bigip.conf", CONF)]);
    assert!(error(&plain[..600]).contains("failed to unpack"), "a member without its end");
}

#[test]
fn bombs() {
    // Zeros behind the header of a member that claims to be large.
    let mut header = header(EntryType::Regular, 4 << 30);
    header.set_path("var/log/ltm").expect("a short name");
    header.set_cksum();
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(header.as_bytes()).expect("a Vec takes all");
    let zeros = vec![0; 1 << 20];
    (0..200).for_each(|_| gz.write_all(&zeros).expect("a Vec takes all"));
    let bytes = gz.finish().expect("a Vec takes all");
    assert!(bytes.len() < 2 << 20);
    assert!(error(&bytes).contains("packed too densely"));
    // A text that is too large, in an archive and alone.
    let text = " ".repeat(usize::try_from(MAX_TEXT).expect("64 bits") + 1);
    assert!(error(text.as_bytes()).contains("more than 64 MiB"));
    assert!(error(&tar(&[("config/bigip.conf", &text)])).contains("a.ucs!config/bigip.conf has more than 64 MiB"));
}

#[test]
fn many_members() {
    let mut empty = header(EntryType::Regular, 0);
    empty.set_path("var/x").expect("a short name");
    empty.set_cksum();
    let many = |count: usize| {
        let mut bytes = empty.as_bytes().repeat(count);
        bytes.extend(tar(&[("config/bigip.conf", CONF)]));
        bytes
    };
    assert_eq!(names(&many(100_000)), ["a.ucs!config/bigip.conf"]);
    assert!(error(&many(MAX_MEMBERS)).contains("more than 200000 members"));
}
