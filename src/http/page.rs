//! The page at `/`: one document with its style and script in it, put together once and served from memory.

use std::sync::LazyLock;

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

const HTML: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The document, and what goes with it.
struct Page {
    html: String,
    etag: String,
    policy: String,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let html = HTML.replace("/*style*/", STYLE).replace("/*script*/", SCRIPT);
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    Page {
        etag: format!("\"{}\"", hash(&html)),
        // Its own script and style, by their bytes, and its own server: a value from the configuration that gets into the page by a mistake
        // of ours does nothing there.
        policy: format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            hash(SCRIPT),
            hash(STYLE)
        ),
        html,
    }
});

pub(super) async fn page(headers: HeaderMap) -> Response {
    let Page { html, etag, policy } = &*PAGE;
    let known = headers.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok());
    let is_known = known.is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == etag));
    let about = [
        (header::ETAG, etag.as_str()),
        // Kept, and asked for again each time: an agent of another version has another page.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    ];
    if is_known { (StatusCode::NOT_MODIFIED, about).into_response() } else { (about, html.as_str()).into_response() }
}

#[cfg(test)]
mod tests {
    use vtep_core::diagnosis::Cause;

    use super::*;

    #[test]
    fn the_page_is_whole_and_knows_every_cause() {
        let Page { html, .. } = &*PAGE;
        assert!(html.contains(STYLE) && html.contains(SCRIPT));
        for cause in Cause::ALL {
            let place = format!("\"{}\":", cause.id());
            assert!(SCRIPT.contains(&place), "page.js does not say at which hop {cause} is");
        }
    }
}
