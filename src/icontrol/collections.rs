//! Which collections are read, and what happens if one cannot be.

use std::collections::BTreeSet;

use super::{Failure, Fetched, page::Page, session::Session};

/// A collection or an object, by its path and by its name in tmsh.
#[derive(Clone, Copy)]
struct Collection {
    path: &'static str,
    query: &'static str,
    name: &'static str,
}

const TUNNELS: Collection = collection("/mgmt/tm/net/tunnels/tunnel", "net tunnels tunnel");
const VXLAN: Collection = collection("/mgmt/tm/net/tunnels/vxlan", "net tunnels vxlan");
const GENEVE: Collection = collection("/mgmt/tm/net/tunnels/geneve", "net tunnels geneve");
const FDB: Collection =
    Collection { query: "?expandSubcollections=true", ..collection("/mgmt/tm/net/fdb/tunnel", "net fdb tunnel") };

/// In the order of the requests: the tunnels first, because nothing can be compared without them.
const COLLECTIONS: [Collection; 8] = [
    TUNNELS,
    VXLAN,
    GENEVE,
    collection("/mgmt/tm/net/self", "net self"),
    collection("/mgmt/tm/net/route", "net route"),
    FDB,
    collection("/mgmt/tm/sys/global-settings", "sys global-settings"),
    collection("/mgmt/tm/net/arp", "net arp"),
];

/// The records of one tunnel that are read with one request, if they cannot be read with their tunnels.
const RECORDS_PER_PAGE: usize = 1000;

const fn collection(path: &'static str, name: &'static str) -> Collection {
    Collection { path, query: "", name }
}

/// Reads all of them. What one user may not read, or one version does not have, is a note.
pub(super) async fn read(session: &mut Session) -> Result<Fetched, Failure> {
    let mut fetched = Fetched::default();
    let mut last = None;
    for (n, collection) in COLLECTIONS.iter().enumerate() {
        let failure = match pages(session, &format!("{}{}", collection.path, collection.query)).await {
            Ok(pages) => {
                fetched.add(pages);
                continue;
            }
            Err(failure) => failure,
        };
        // If the first answer shows that nothing works, seven more failures would only hide that.
        if failure.is_final() || (n == 0 && !failure.is_refusal()) {
            return Err(failure);
        }
        if failure.is_exhausted() {
            let rest: Vec<_> = COLLECTIONS.iter().skip(n).map(|collection| collection.name).collect();
            fetched.notes.push(format!("{}: not read, {failure}", rest.join(", ")));
            return Ok(fetched);
        }
        match collection.path {
            path if path == FDB.path => records(session, &mut fetched, &failure).await?,
            _ => fetched.notes.push(format!("{}: not read, {failure}", collection.name)),
        }
        last = Some(failure);
    }
    match last {
        Some(failure) if fetched.responses.is_empty() => Err(failure),
        Some(_) | None => Ok(fetched),
    }
}

/// All pages of a collection: a part of it would look as if BIG-IP lacked the rest.
async fn pages(session: &mut Session, first: &str) -> Result<Vec<Page>, Failure> {
    let mut asked = BTreeSet::from([first.to_owned()]);
    let mut pages = Vec::new();
    let mut page = session.get(first).await?;
    while let Some(next) = page.next.clone() {
        if !asked.insert(next.clone()) {
            return Err(Failure::BadLink);
        }
        pages.push(std::mem::replace(&mut page, session.get(&next).await?));
    }
    pages.push(page);
    Ok(pages)
}

/// The FDB, tunnel by tunnel: the way that remains if BIG-IP does not answer with all records at once.
async fn records(session: &mut Session, fetched: &mut Fetched, refused: &Failure) -> Result<(), Failure> {
    let tunnels = overlay_tunnels(fetched);
    if tunnels.is_empty() {
        fetched.notes.push(format!("{}: not read, {refused}", FDB.name));
        return Ok(());
    }
    for (n, tunnel) in tunnels.iter().enumerate() {
        let path = format!("{}/{}/records?$top={RECORDS_PER_PAGE}", FDB.path, in_path(tunnel));
        match pages(session, &path).await {
            Ok(pages) => fetched.add(pages),
            Err(failure) if failure.is_final() => return Err(failure),
            Err(failure) => {
                // The user's rights, and the limits, are the same for every tunnel.
                let is_last = failure.is_refusal() || failure.is_exhausted();
                let concerned =
                    if is_last { tunnels.get(n..).unwrap_or_default() } else { std::slice::from_ref(tunnel) };
                fetched.notes.push(format!("{} {}: not read, {failure}", FDB.name, concerned.join(", ")));
                if is_last {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// The tunnels with a profile for VXLAN or Geneve: the others have no FDB that matters. All tunnels, if the profiles are unknown.
fn overlay_tunnels(fetched: &Fetched) -> Vec<String> {
    let of = |collection: Collection| {
        fetched.responses.iter().filter(move |response| response.url_path == collection.path).flat_map(Page::named)
    };
    let profiles: BTreeSet<_> = of(VXLAN).chain(of(GENEVE)).map(|profile| profile.full_path).collect();
    let is_overlay =
        |profile: Option<&String>| profiles.is_empty() || profile.is_none_or(|name| profiles.contains(name));
    of(TUNNELS).filter(|tunnel| is_overlay(tunnel.profile.as_ref())).map(|tunnel| tunnel.full_path).collect()
}

/// A full name as a part of a path: `/Common/a` is `~Common~a`.
fn in_path(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'/' => text.push('~'),
            b'-' | b'.' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => text.push(char::from(byte)),
            _ => text += &format!("%{byte:02X}"),
        }
    }
    text
}

impl Fetched {
    fn add(&mut self, pages: Vec<Page>) {
        for Page { response, objects, next: _ } in pages {
            self.objects += objects;
            self.responses.push(response);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Response, *};

    fn response(collection: Collection, items: &str) -> Response {
        let body = format!(r#"{{"kind": "collectionstate", "items": [{items}]}}"#);
        Response { url_path: collection.path.to_owned(), body }
    }

    #[test]
    fn only_tunnels_of_overlays_have_an_fdb_that_matters() {
        let tunnels = response(
            TUNNELS,
            r#"{"fullPath": "/Common/http-tunnel", "profile": "/Common/tcp-forward"},
               {"fullPath": "/Common/cilium", "profile": "/Common/cilium_vxlan"},
               {"fullPath": "/k8s/eks", "profile": "/Common/geneve"}"#,
        );
        let vxlan = response(VXLAN, r#"{"fullPath": "/Common/vxlan"}, {"fullPath": "/Common/cilium_vxlan"}"#);
        let geneve = response(GENEVE, r#"{"fullPath": "/Common/geneve"}"#);
        let mut fetched = Fetched { responses: vec![tunnels, vxlan, geneve], ..Fetched::default() };
        assert_eq!(overlay_tunnels(&fetched), ["/Common/cilium", "/k8s/eks"]);
        fetched.responses.truncate(1);
        assert_eq!(overlay_tunnels(&fetched).len(), 3);
    }

    #[test]
    fn a_name_is_one_part_of_a_path() {
        assert_eq!(in_path("/Common/cilium"), "~Common~cilium");
        assert_eq!(in_path("/k8s/folder/a b?x=1&../%"), "~k8s~folder~a%20b%3Fx%3D1%26..~%25");
    }
}
