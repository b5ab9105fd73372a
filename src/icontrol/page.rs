//! One answer as JSON: a page of a collection, or a single object.

use hyper::Uri;
use serde::Deserialize;
use serde_json::{error::Category, value::RawValue};

use super::{Failure, Response};

/// An answer that is whole.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) response: Response,
    /// The objects in it, records of sub-collections included.
    pub(super) objects: usize,
    /// Path and query of the next page.
    pub(super) next: Option<String>,
}

/// The fields that every answer of iControl REST has, and those of a collection.
#[derive(Deserialize)]
struct Envelope<'a> {
    kind: String,
    #[serde(rename = "nextLink")]
    next_link: Option<String>,
    // An empty collection has no `items`.
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

/// An item of `net fdb tunnel` with `expandSubcollections=true`.
#[derive(Deserialize)]
struct Expanded<'a> {
    #[serde(rename = "recordsReference", borrow)]
    records: Option<Records<'a>>,
}

#[derive(Deserialize)]
struct Records<'a> {
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

/// The fields of a tunnel that say where its records are.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Named {
    #[serde(rename = "fullPath")]
    pub(super) full_path: String,
    pub(super) profile: Option<String>,
}

impl Page {
    /// The answer to a GET of this path and query.
    pub(super) fn parse(asked: &str, body: Vec<u8>) -> Result<Self, Failure> {
        let path = asked.split('?').next().unwrap_or_default();
        let body = String::from_utf8(body).map_err(|_| Failure::NotJson)?;
        let envelope: Envelope<'_> = serde_json::from_str(&body).map_err(|error| unreadable(&body, &error))?;
        let next = envelope.next_link.map(|link| next(path, asked, &link)).transpose()?;
        let is_collection = envelope.kind.ends_with("collectionstate");
        let objects = match &envelope.items {
            Some(items) => items.iter().map(|item| 1 + records_in(item)).sum(),
            None => usize::from(!is_collection),
        };
        Ok(Self { response: Response { url_path: path.to_owned(), body }, objects, next })
    }

    /// The items that have a name, each with its profile if it is a tunnel.
    pub(super) fn named(response: &Response) -> Vec<Named> {
        let envelope = serde_json::from_str::<Envelope<'_>>(&response.body).ok();
        let items = envelope.and_then(|envelope| envelope.items).unwrap_or_default();
        items.iter().filter_map(|item| serde_json::from_str(item.get()).ok()).collect()
    }
}

fn records_in(item: &RawValue) -> usize {
    let expanded = serde_json::from_str::<Expanded<'_>>(item.get()).ok();
    expanded.and_then(|item| item.records?.items).map_or(0, |records| records.len())
}

fn unreadable(body: &str, error: &serde_json::Error) -> Failure {
    // A login page, or the page of a proxy.
    if body.trim_start().starts_with('<') {
        return Failure::WebPage;
    }
    match error.classify() {
        Category::Eof => Failure::Truncated,
        Category::Data => Failure::NotIcontrol,
        Category::Syntax | Category::Io => Failure::NotJson,
    }
}

/// Path and query of a `nextLink`. Its host is BIG-IP's own name for itself, `localhost`, so it does not count. It must lead on in the same
/// collection: the server decides neither where the credentials go nor that there is no end.
fn next(path: &str, asked: &str, link: &str) -> Result<String, Failure> {
    let uri: Uri = link.parse().map_err(|_| Failure::BadLink)?;
    match uri.path_and_query() {
        Some(next) if next.path() == path && next.as_str() != asked => Ok(next.as_str().to_owned()),
        Some(_) | None => Err(Failure::BadLink),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/mgmt/tm/net/self";

    fn parse(body: &str) -> Result<(usize, Option<String>), Failure> {
        Page::parse(PATH, body.as_bytes().to_vec()).map(|page| (page.objects, page.next))
    }

    #[test]
    fn objects_are_counted_with_their_records() {
        let table = [
            (r#"{"kind": "tm:net:self:selfcollectionstate"}"#, 0),
            (r#"{"kind": "tm:net:self:selfcollectionstate", "items": [{}, {"recordsReference": {"link": "x"}}]}"#, 2),
            (
                r#"{"kind": "tm:net:fdb:tunnel:tunnelcollectionstate", "items": [{"recordsReference": {"items": [{}, {}]}}, {"x": 1}]}"#,
                4,
            ),
            (r#"{"kind": "tm:sys:global-settings:global-settingsstate", "hostname": "b"}"#, 1),
        ];
        for (body, objects) in table {
            assert_eq!(parse(body), Ok((objects, None)), "{body}");
        }
    }

    #[test]
    fn what_is_no_answer_of_icontrol_is_named() {
        let table = [
            ("<!DOCTYPE html><html>", Failure::WebPage),
            (" \n<html>", Failure::WebPage),
            (r#"{"kind": "tm:net:self:selfcollectionstate", "items": [{"na"#, Failure::Truncated),
            ("", Failure::Truncated),
            ("hello", Failure::NotJson),
            ("[]", Failure::NotIcontrol),
            (r#"{"items": []}"#, Failure::NotIcontrol),
            (r#"{"kind": "tm:net:self:selfcollectionstate", "items": {}}"#, Failure::NotIcontrol),
        ];
        for (body, failure) in table {
            assert_eq!(parse(body), Err(failure), "{body}");
        }
        assert_eq!(Page::parse(PATH, b"\xff{}".to_vec()).map(|page| page.objects), Err(Failure::NotJson));
    }

    #[test]
    fn a_next_page_is_on_the_same_host_and_in_the_same_collection() {
        let table = [
            (
                "https://localhost/mgmt/tm/net/self?$top=2&$skip=2&ver=16.1.0",
                Ok("/mgmt/tm/net/self?$top=2&$skip=2&ver=16.1.0"),
            ),
            ("https://other.example/mgmt/tm/net/self?$skip=2", Ok("/mgmt/tm/net/self?$skip=2")),
            ("https://localhost/mgmt/tm/auth/user?$skip=2", Err(Failure::BadLink)),
            ("https://localhost/mgmt/tm/net/self", Err(Failure::BadLink)),
            ("not a link", Err(Failure::BadLink)),
        ];
        for (link, expected) in table {
            assert_eq!(next(PATH, PATH, link).as_deref().map_err(Clone::clone), expected, "{link}");
        }
    }

    #[test]
    fn names_come_from_items_that_have_one() {
        let body = r#"{"kind": "k", "items": [{"fullPath": "/Common/a", "profile": "/Common/p"}, {"name": "b"}, {"fullPath": "/Common/c"}]}"#;
        let response = Response { url_path: PATH.into(), body: body.into() };
        let named =
            |name: &str, profile: Option<&str>| Named { full_path: name.into(), profile: profile.map(Into::into) };
        assert_eq!(Page::named(&response), [named("/Common/a", Some("/Common/p")), named("/Common/c", None)]);
    }
}
