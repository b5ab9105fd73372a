//! What goes wrong, for which requests, and how often.

use std::time::Duration;

use crate::record::{Request, Verb};

/// One misbehaviour. It answers a request wrongly ([`crate::ApiServer::misbehave`]) or disturbs a watch that is already open
/// ([`crate::ApiServer::interrupt`]), where a status becomes an `ERROR` event that ends the watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// 401: the token is not accepted.
    Unauthorized,
    /// 403 in the words of RBAC, with verb, resource, namespace and name.
    Forbidden,
    /// 404 as a `Status`: the object is not there.
    NotFound,
    /// 410 with reason `Expired`.
    Gone,
    /// 429 with `Retry-After` in seconds.
    TooManyRequests(u32),
    /// 500.
    InternalError,
    /// 503, without `Retry-After`.
    Unavailable,
    /// Accepted and never answered; an open watch falls silent.
    Hang,
    /// Answered properly, but only after this time; an open watch pauses.
    Delay(Duration),
    /// JSON cut in the middle: half a watch event, or half a body whose full length was announced.
    HalfLine(After),
    /// RST instead of an answer, or in the middle of a watch.
    Reset,
    /// FIN instead of an answer, or in the middle of a watch, without the chunk that would end it.
    Close,
    /// A proper end: an empty 200, or the end that a watch has when its time is over.
    End,
    /// Bookmarks without end at this rate per second (capped at a million), between proper events. Only for watches.
    Bookmarks(u32),
    /// The proper answer with a list where a map belongs: `data`, `spec` or else `metadata.labels`. In a watch, one such event.
    WrongShape,
    /// 200 with bytes that are neither JSON nor UTF-8. In a watch, one such line.
    Garbage,
    /// Bytes that are no HTTP, then FIN.
    NotHttp,
}

/// What follows half a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Nothing, with the connection open.
    Silence,
    /// FIN without the end of the body.
    Close,
    /// A proper end of the body. Only a watch can have that; elsewhere it is [`After::Close`].
    End,
}

/// How often a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// For the next so many matching requests.
    Next(usize),
    /// Until [`crate::ApiServer::behave`].
    Always,
}

/// Which requests are meant: all conditions that are set must hold.
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

    /// Only paths that start like this.
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

    /// Whether a request is meant.
    #[must_use]
    pub fn matches(&self, request: &Request) -> bool {
        let Self { path, verb, resource, name } = self;
        path.as_ref().is_none_or(|prefix| request.path.starts_with(prefix))
            && verb.is_none_or(|verb| verb == request.verb)
            && resource.as_ref().is_none_or(|resource| *resource == request.rbac_resource())
            && name.as_ref().is_none_or(|name| *name == request.name)
    }
}

/// The faults in force, oldest first, so that a sequence plays in the order in which it was given.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<(Matcher, Fault, Times)>);

impl Faults {
    pub(crate) fn add(&mut self, matcher: Matcher, fault: Fault, times: Times) {
        self.0.push((matcher, fault, times));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault for a request, counted as used.
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
