//! The page at `/`: one document that includes its style and script. It is assembled once and served from memory.

use std::sync::LazyLock;

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use vtep_core::{diagnosis::Cause, types::digest};

const HTML: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
/// The placeholder in the script for the table of hops.
const NO_HOPS: &str = "/*hops*/{}";

/// The document, and its headers.
struct Page {
    html: String,
    etag: String,
    policy: String,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let script = SCRIPT.replace(NO_HOPS, &hops());
    let html = HTML.replace("/*style*/", STYLE).replace("/*script*/", &script);
    Page {
        etag: format!("\"{}\"", digest::base64(&html)),
        // Only its own script and style, by their hashes, and only its own server. If a mistake of ours put a value of the configuration
        // into the markup, a browser would not execute it.
        policy: format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            digest::base64(&script),
            digest::base64(STYLE)
        ),
        html,
    }
});

/// The hop of each cause, as a JavaScript object.
fn hops() -> String {
    let hop = |cause: &Cause| format!("\"{cause}\":\"{}\"", cause.hop().id());
    format!("{{{}}}", Cause::ALL.iter().filter(|cause| !cause.is_remark()).map(hop).collect::<Vec<_>>().join(","))
}

pub(super) async fn page(headers: HeaderMap) -> Response {
    let Page { html, etag, policy } = &*PAGE;
    let known = headers.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok());
    let is_known = known.is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == etag));
    let about = [
        (header::ETAG, etag.as_str()),
        // The browser keeps the page, but asks each time whether it has changed: another version of the agent has another page.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    ];
    if is_known { (StatusCode::NOT_MODIFIED, about).into_response() } else { (about, html.as_str()).into_response() }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;

    use vtep_core::diagnosis::{Cause, Hop, Verdict};

    use super::*;

    #[test]
    fn the_page_is_whole_and_its_policy_allows_its_script() {
        let Page { html, policy, .. } = &*PAGE;
        let (_, script) = html.split_once("<script>").expect("a script");
        let (script, _) = script.split_once("</script>").expect("its end");
        assert!(html.contains(STYLE) && script.contains("function draw("));
        assert!(policy.contains(&digest::base64(script)), "{policy}");
        assert!(!html.contains("/*style*/") && !html.contains("/*script*/") && !html.contains(NO_HOPS));
    }

    #[test]
    fn the_most_urgent_verdict_comes_first() {
        let mut verdicts = Verdict::ALL.to_vec();
        verdicts.sort_by_key(|verdict| Reverse(verdict.severity()));
        let urgency = format!("const URGENCY = {};", serde_json::json!(verdicts)).replace("\",\"", "\", \"");
        assert!(SCRIPT.contains(&urgency), "page.js lacks {urgency}");
    }

    #[test]
    fn the_script_has_the_hop_of_every_cause_and_draws_every_hop() {
        let hops: serde_json::Value = serde_json::from_str(&hops()).expect("JSON");
        let ids: Vec<_> = Hop::ALL.iter().map(|hop| hop.id()).collect();
        for cause in Cause::ALL.iter().filter(|cause| !cause.is_remark()) {
            assert_eq!(hops[cause.id()], cause.hop().id());
            assert!(ids.contains(&cause.hop().id()), "Hop::ALL lacks the hop of {cause}");
        }
        for id in ids {
            assert!(SCRIPT.contains(&format!("{{ id: \"{id}\",")), "page.js draws no hop {id}");
        }
    }
}
