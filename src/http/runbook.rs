//! The runbook at `/runbook`, as it was when this agent was built: whoever has set no other address still has a link that leads somewhere,
//! also without the Internet. Its text stays Markdown; only its sections are marked up, so that a link finds them.

use std::sync::LazyLock;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use vtep_core::types::digest;

const TEXT: &str = include_str!("../../docs/runbook.md");
const STYLE: &str = ":root{color-scheme:light dark}body{margin:0 auto;max-width:64rem;padding:1.5rem 1rem;font:16px/1.5 system-ui,sans-serif}\
                     pre{white-space:pre-wrap;overflow-wrap:anywhere;font:inherit}:target{border-left:4px solid;padding-left:.75rem}";

static HTML: LazyLock<String> = LazyLock::new(|| html(TEXT));
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = digest::base64(STYLE);
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

pub(super) async fn runbook() -> Response {
    let headers = [
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    ];
    (headers, HTML.as_str()).into_response()
}

fn html(text: &str) -> String {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, \
         initial-scale=1\"><title>vtep-agent: runbook</title><style>{STYLE}</style></head><body><main>"
    );
    for section in text.split("\n## ") {
        let (heading, body) = section.split_once('\n').unwrap_or((section, ""));
        let (tag, heading) = heading.strip_prefix("# ").map_or(("h2", heading), |title| ("h1", title));
        let (heading, body) = (escaped(heading), escaped(body.trim()));
        html += &format!("<section id=\"{heading}\"><{tag}>{heading}</{tag}><pre>{body}</pre></section>");
    }
    html + "</main></body></html>"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use vtep_core::diagnosis::Cause;

    use super::*;

    #[test]
    fn every_cause_has_a_place() {
        for cause in Cause::ALL {
            assert!(HTML.contains(&format!("<section id=\"{cause}\"><h2>{cause}</h2>")), "{cause}");
        }
    }

    #[test]
    fn text_is_no_markup() {
        let page = html("# A\n\n<b> & c\n\n## d\n\ne\n");
        assert!(
            page.contains("<h1>A</h1><pre>&lt;b&gt; &amp; c</pre></section><section id=\"d\"><h2>d</h2><pre>e</pre>"),
            "{page}"
        );
    }
}
