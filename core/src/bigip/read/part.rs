//! What one text shows of one BIG-IP: objects with their properties as text, whatever notation they were in.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    bigip::{
        device::{Component, ObjectName},
        tmsh::{Node, Position, Word},
    },
    types::{location::Location, mac::Mac},
};

/// A kind of objects that is read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::bigip) enum Kind {
    /// `net tunnels`, and the component.
    Profile(String),
    Tunnel,
    SelfIp,
    Route,
    Fdb,
    Arp,
    /// `auth partition`.
    Partition,
}

impl Kind {
    /// The kind that the first words of a stanza or of a command name, and the number of these words.
    pub(in crate::bigip) fn of_words<'w>(words: impl IntoIterator<Item = &'w str>) -> Option<(Self, usize)> {
        let mut words = words.into_iter();
        // `/net fdb` as a command is the same as `net fdb`.
        let module = words.next()?;
        Some(match (module.strip_prefix('/').unwrap_or(module), words.next()?) {
            ("net", "self") => (Self::SelfIp, 2),
            ("net", "route") => (Self::Route, 2),
            ("net", "arp") => (Self::Arp, 2),
            ("auth", "partition") => (Self::Partition, 2),
            ("net", "fdb") => (words.next() == Some("tunnel")).then_some((Self::Fdb, 3))?,
            ("net", "tunnels") => match words.next()? {
                "tunnel" => (Self::Tunnel, 3),
                kind => (Self::Profile(kind.to_owned()), 3),
            },
            _ => return None,
        })
    }

    pub(in crate::bigip) fn component(&self) -> Option<Component> {
        match self {
            Self::Profile(_) => Some(Component::Profiles),
            Self::Tunnel => Some(Component::Tunnels),
            Self::SelfIp => Some(Component::SelfIps),
            Self::Route => Some(Component::Routes),
            Self::Fdb => Some(Component::Fdb),
            Self::Arp | Self::Partition => None,
        }
    }

    /// The words that `tmsh list` prints before the name.
    pub(in crate::bigip) fn words(&self) -> Cow<'static, str> {
        match self {
            Self::Profile(kind) => format!("net tunnels {kind}").into(),
            Self::Tunnel => "net tunnels tunnel".into(),
            Self::SelfIp => "net self".into(),
            Self::Route => "net route".into(),
            Self::Fdb => "net fdb tunnel".into(),
            Self::Arp => "net arp".into(),
            Self::Partition => "auth partition".into(),
        }
    }
}

/// An object as the input writes it.
#[derive(Clone, Debug)]
pub(in crate::bigip) struct Object<'a> {
    pub(in crate::bigip) kind: Kind,
    pub(in crate::bigip) name: String,
    /// The folder of names without one, in this object.
    pub(in crate::bigip) folder: Arc<str>,
    pub(in crate::bigip) files: Arc<[Arc<str>]>,
    pub(in crate::bigip) at: Position,
    /// Its properties, as a block of a stanza has them. Of two with the same name, the last one counts.
    pub(in crate::bigip) body: Vec<Node<'a>>,
}

impl Object<'_> {
    pub(in crate::bigip) fn location(&self) -> Location {
        location(&self.files, self.at)
    }

    pub(in crate::bigip) fn key(&self) -> (Kind, ObjectName) {
        // A profile's name is unique among all kinds of profiles that share a folder.
        (self.kind.clone(), absolute(&self.name, &self.folder, &BTreeSet::new()))
    }
}

/// The place as users see it. `files` has the name of each text.
pub(in crate::bigip) fn location(files: &[Arc<str>], at: Position) -> Location {
    let Position { text, line, column } = at;
    let file = usize::try_from(text).ok().and_then(|number| files.get(number));
    Location::new(file.unwrap_or(&"".into()), line, column)
}

/// The absolute name of an object. In `/`, tmsh writes names that begin with a partition, without the first slash.
pub(in crate::bigip) fn absolute(name: &str, folder: &str, partitions: &BTreeSet<String>) -> ObjectName {
    let first = name.split_once('/').map(|(first, _)| first);
    let is_path = first.is_some_and(|first| first == "Common" || partitions.contains(first));
    ObjectName::new(name, if is_path { "" } else { folder.trim_end_matches('/') })
}

/// The value of a property.
#[derive(Clone, Copy, Debug)]
pub(in crate::bigip) enum Value<'o, 'a> {
    Word(&'o Word<'a>),
    Block(&'o [Node<'a>]),
    /// `add { … }` and the like, in a command.
    Edit(&'o Word<'a>, &'o [Node<'a>]),
    /// The property stands alone.
    Flag,
}

/// Properties that have no value.
const FLAGS: &[&str] = &["blackhole", "no-write"];
/// What a command does with the members of a list.
const EDITS: &[&str] = &["add", "delete", "modify", "replace-all-with"];

/// The properties of a block, with their names. Two properties can share a line.
pub(in crate::bigip) fn properties<'o, 'a>(
    body: &'o [Node<'a>],
) -> impl Iterator<Item = (&'o Word<'a>, Value<'o, 'a>)> {
    body.iter().flat_map(|Node { words, block }| {
        let mut rest = words.as_slice();
        std::iter::from_fn(move || {
            let (key, behind) = rest.split_first()?;
            let is_flag = FLAGS.contains(&&*key.text);
            let (value, rest_behind) = match (behind, block) {
                ([edit], Some(block)) if EDITS.contains(&&*edit.text) => (Value::Edit(edit, block), &[][..]),
                ([value, behind @ ..], _) if !is_flag => (Value::Word(value), behind),
                ([], Some(block)) => (Value::Block(block), behind),
                _ => (Value::Flag, behind),
            };
            rest = rest_behind;
            Some((key, value))
        })
    })
}

/// The last property with this name.
pub(in crate::bigip) fn property<'o, 'a>(body: &'o [Node<'a>], name: &str) -> Option<(&'o Word<'a>, Value<'o, 'a>)> {
    properties(body).filter(|(key, _)| key.text == name).last()
}

/// The text of a property with one word as its value.
pub(in crate::bigip) fn word<'o>(body: &'o [Node<'_>], name: &str) -> Option<&'o str> {
    match property(body, name)?.1 {
        Value::Word(word) => Some(&word.text),
        Value::Block(_) | Value::Edit(..) | Value::Flag => None,
    }
}

/// A member of a list, and the properties that it has.
#[derive(Clone, Copy, Debug)]
pub(in crate::bigip) struct Member<'o, 'a> {
    pub(in crate::bigip) name: &'o Word<'a>,
    pub(in crate::bigip) body: &'o [Node<'a>],
}

/// The members of a list after all changes by commands, and the word of the property; `None` if the object does not have the property. A
/// single word is the only member, and `none` is none.
pub(in crate::bigip) fn members<'o, 'a>(
    body: &'o [Node<'a>],
    name: &str,
) -> Option<(&'o Word<'a>, Vec<Member<'o, 'a>>)> {
    let (mut all, mut word) = (Members::default(), None);
    for (key, value) in properties(body).filter(|(key, _)| key.text == name) {
        word = Some(key);
        match value {
            Value::Flag => {}
            Value::Word(value) if value.text == "none" => all = Members::default(),
            Value::Word(value) => {
                all = Members::default();
                all.add(Member { name: value, body: &[] });
            }
            Value::Block(block) => {
                all = Members::default();
                of_block(block).for_each(|member| all.add(member));
            }
            Value::Edit(edit, block) => {
                if edit.text == "replace-all-with" {
                    all = Members::default();
                }
                let is_delete = edit.text == "delete";
                of_block(block).for_each(|member| if is_delete { all.delete(member) } else { all.add(member) });
            }
        }
    }
    Some((word?, all.list.into_iter().flatten().collect()))
}

/// Members in the order in which they were added; of two with the same name, the last one.
#[derive(Default)]
struct Members<'o, 'a> {
    list: Vec<Option<Member<'o, 'a>>>,
    places: HashMap<&'o str, usize>,
}

impl<'o, 'a> Members<'o, 'a> {
    fn add(&mut self, member: Member<'o, 'a>) {
        self.delete(member);
        self.places.insert(&member.name.text, self.list.len());
        self.list.push(Some(member));
    }

    fn delete(&mut self, member: Member<'o, 'a>) {
        if let Some(place) = self.places.remove(&*member.name.text).and_then(|place| self.list.get_mut(place)) {
            *place = None;
        }
    }
}

fn of_block<'o, 'a>(block: &'o [Node<'a>]) -> impl Iterator<Item = Member<'o, 'a>> {
    block.iter().flat_map(|Node { words, block }| {
        let last = words.len().saturating_sub(1);
        let body = block.as_deref().unwrap_or_default();
        words.iter().enumerate().map(move |(n, name)| Member { name, body: if n == last { body } else { &[] } })
    })
}

/// A row of the table of `show net fdb tunnel`.
#[derive(Clone, Debug)]
pub(in crate::bigip) struct FdbRow {
    pub(in crate::bigip) tunnel: String,
    pub(in crate::bigip) mac: Mac,
    /// As the table has it: `10.169.72.239%0`.
    pub(in crate::bigip) endpoint: String,
    pub(in crate::bigip) is_dynamic: bool,
    pub(in crate::bigip) at: Position,
}

/// A row of the table of `show net arp`.
#[derive(Clone, Debug)]
pub(in crate::bigip) struct ArpRow {
    pub(in crate::bigip) address: String,
    pub(in crate::bigip) mac: Option<Mac>,
    pub(in crate::bigip) vlan: String,
    pub(in crate::bigip) at: Position,
}

/// What `show net tunnels tunnel` prints of one tunnel.
#[derive(Clone, Debug)]
pub(in crate::bigip) struct TunnelMac {
    pub(in crate::bigip) tunnel: String,
    pub(in crate::bigip) mac: Mac,
    pub(in crate::bigip) at: Position,
}

/// The problems of one text that are listed.
const MAX_NOTES: usize = 20;

/// A text among the others: objects can have properties from several of them.
#[derive(Clone, Debug)]
pub(in crate::bigip) struct Source {
    /// The names of all texts.
    pub(in crate::bigip) files: Arc<[Arc<str>]>,
    pub(in crate::bigip) number: u32,
}

impl Default for Source {
    fn default() -> Self {
        Self { files: Arc::new([]), number: 0 }
    }
}

/// What shows how much of a configuration a text contains.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::bigip) struct Signs {
    /// The first line of each file that BIG-IP saves: `#TMSH-VERSION`.
    pub(in crate::bigip) is_file: bool,
    /// A stanza that `bigip_base.conf` has.
    pub(in crate::bigip) has_base: bool,
    /// A stanza that `bigip.conf` has.
    pub(in crate::bigip) has_ltm: bool,
    /// A partition with files of its own.
    pub(in crate::bigip) has_partitions: bool,
    /// The text is cut off, or has another error.
    pub(in crate::bigip) is_broken: bool,
}

/// The part of a text that belongs to one BIG-IP.
#[derive(Clone, Debug, Default)]
pub(in crate::bigip) struct Part<'a> {
    pub(in crate::bigip) source: Source,
    /// From its configuration.
    pub(in crate::bigip) hostname: Option<String>,
    /// From a prompt of tmsh or bash, without the domain, or from the addresses of requests to several hosts.
    pub(in crate::bigip) prompt: Option<String>,
    pub(in crate::bigip) objects: Vec<Object<'a>>,
    /// The place of each object in `objects`.
    places: HashMap<(Kind, ObjectName), usize>,
    pub(in crate::bigip) fdb_rows: Vec<FdbRow>,
    pub(in crate::bigip) arp_rows: Vec<ArpRow>,
    pub(in crate::bigip) tunnel_macs: Vec<TunnelMac>,
    pub(in crate::bigip) signs: Signs,
    /// The kinds that the text shows, completely unless `signs` or `partial` contradict.
    pub(in crate::bigip) covered: BTreeSet<Component>,
    /// The kinds of which the text shows selected objects.
    pub(in crate::bigip) partial: BTreeSet<Component>,
    pub(in crate::bigip) partitions: BTreeMap<String, Position>,
    pub(in crate::bigip) notes: Vec<String>,
}

impl<'a> Part<'a> {
    pub(in crate::bigip) fn new(source: &Source) -> Self {
        Self { source: source.clone(), ..Self::default() }
    }

    pub(in crate::bigip) fn file(&self) -> &str {
        let Source { files, number } = &self.source;
        usize::try_from(*number).ok().and_then(|number| files.get(number)).map_or("", |file| file)
    }

    pub(in crate::bigip) fn is_empty(&self) -> bool {
        let Self { hostname, objects, fdb_rows, arp_rows, tunnel_macs, covered, .. } = self;
        hostname.is_none()
            && objects.is_empty()
            && fdb_rows.is_empty()
            && arp_rows.is_empty()
            && tunnel_macs.is_empty()
            && covered.is_empty()
    }

    /// Adds an object. A text that shows an object twice shows it at two times: the later one counts.
    pub(in crate::bigip) fn replace(&mut self, object: Object<'a>) {
        let place = *self.places.entry(object.key()).or_insert(self.objects.len());
        match self.objects.get_mut(place) {
            Some(known) => *known = object,
            None => self.objects.push(object),
        }
    }

    /// Adds properties to an object, which the command creates or changes.
    pub(in crate::bigip) fn extend(&mut self, object: Object<'a>) {
        let place = *self.places.entry(object.key()).or_insert(self.objects.len());
        match self.objects.get_mut(place) {
            Some(known) => known.body.extend(object.body),
            None => self.objects.push(object),
        }
    }

    pub(in crate::bigip) fn has(&self, kind: &Kind, name: &str, folder: &str) -> bool {
        self.places.contains_key(&(kind.clone(), absolute(name, folder, &BTreeSet::new())))
    }

    pub(in crate::bigip) fn remove(&mut self, kind: &Kind, name: &str, folder: &str) {
        let key = (kind.clone(), absolute(name, folder, &BTreeSet::new()));
        let Some(place) = self.places.remove(&key) else { return };
        // The place stays, so that those of the others stay valid.
        if let Some(object) = self.objects.get_mut(place) {
            object.name.clear();
        }
    }

    pub(in crate::bigip) fn set_hostname(&mut self, hostname: Option<&str>) {
        if let Some(hostname) = hostname {
            self.hostname = Some(hostname.to_owned());
        }
    }

    pub(in crate::bigip) fn note(&mut self, at: Position, text: impl std::fmt::Display) {
        if self.notes.len() == MAX_NOTES {
            self.notes.push(format!("{}: the other problems of this file are not listed", self.file()));
        }
        if self.notes.len() > MAX_NOTES {
            return;
        }
        let at = location(&self.source.files, at);
        self.notes.push(format!("{at}: {text}"));
    }
}
