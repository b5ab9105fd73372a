//! Faults: their kinds, the requests that they apply to, and how often.

use std::time::Duration;

use crate::record::{Request, Verb};

/// One fault. It replaces the answer of a request ([`crate::ApiServer::misbehave`]) or disturbs an open watch
/// ([`crate::ApiServer::interrupt`]). In a watch, a status becomes an `ERROR` event that ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// 401: the server does not accept the token.
    Unauthorized,
    /// 403 in the words of RBAC, with verb, resource, namespace and name.
    Forbidden,
    /// 404 as a `Status`: the object does not exist.
    NotFound,
    /// 410 with reason `Expired`.
    Gone,
    /// 429 with `Retry-After` in seconds.
    TooManyRequests(u32),
    /// 500.
    InternalError,
    /// 503, without `Retry-After`.
    Unavailable,
    /// The server accepts the request and never answers; an open watch falls silent.
    Hang,
    /// The server answers correctly, but only after this time; an open watch pauses.
    Delay(Duration),
    /// The server cuts JSON in the middle: half a watch event, or half of a body with the full length in its header.
    HalfLine(After),
    /// RST in place of an answer, or in the middle of a watch.
    Reset,
    /// FIN in place of an answer, or in the middle of a watch, without the final chunk.
    Close,
    /// A regular end: an empty 200, or the regular end of a watch.
    End,
    /// Endless bookmarks at this rate per second (at most a million), between the regular events. Only for watches.
    Bookmarks(u32),
    /// The correct answer, except for a list in place of a map: `data`, `spec` or else `metadata.labels`. In a watch, one such event.
    WrongShape,
    /// 200 with bytes that are neither JSON nor UTF-8. In a watch, one such line.
    Garbage,
    /// Bytes that are not HTTP, then FIN.
    NotHttp,
}

/// The server's behaviour after half a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Nothing more; the connection remains open.
    Silence,
    /// FIN without the end of the body.
    Close,
    /// A regular end of the body. Only a watch can have it; other requests get [`After::Close`].
    End,
}

/// How often a fault applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// This many matching requests, the next ones.
    Next(usize),
    /// Until [`crate::ApiServer::behave`].
    Always,
}

/// Selects requests: a request must meet all conditions that are set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matcher {
    path: Option<String>,
    verb: Option<Verb>,
    resource: Option<String>,
    name: Option<String>,
}

impl Matcher {
    /// Every request.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Only paths with this prefix.
    #[must_use]
    pub fn path(mut self, prefix: &str) -> Self {
        self.path = Some(prefix.to_owned());
        self
    }

    /// Only this verb.
    #[must_use]
    pub fn verb(mut self, verb: Verb) -> Self {
        self.verb = Some(verb);
        self
    }

    /// Only this resource, as RBAC spells it: `nodes` or `nodes/status`.
    #[must_use]
    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.to_owned());
        self
    }

    /// Only this object, named in the path or by a field selector.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Whether a request meets all conditions.
    #[must_use]
    pub fn matches(&self, request: &Request) -> bool {
        let Self { path, verb, resource, name } = self;
        path.as_ref().is_none_or(|prefix| request.path.starts_with(prefix))
            && verb.is_none_or(|verb| verb == request.verb)
            && resource.as_ref().is_none_or(|resource| *resource == request.rbac_resource())
            && name.as_ref().is_none_or(|name| *name == request.name)
    }
}

/// The active faults, oldest first, so that a sequence applies in the order in which a test gave it.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<(Matcher, Fault, Times)>);

impl Faults {
    pub(crate) fn add(&mut self, matcher: Matcher, fault: Fault, times: Times) {
        self.0.push((matcher, fault, times));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes the fault for a request, and counts it as used.
    pub(crate) fn take(&mut self, request: &Request) -> Option<Fault> {
        self.0.retain(|(_, _, times)| *times != Times::Next(0));
        let concerned = |(matcher, fault, _): &&mut (Matcher, Fault, Times)| {
            matcher.matches(request) && (request.verb == Verb::Watch || !matches!(fault, Fault::Bookmarks(_)))
        };
        let (_, fault, times) = self.0.iter_mut().find(concerned)?;
        if let Times::Next(left) = times {
            *left -= 1;
        }
        Some(fault.clone())
    }
}
