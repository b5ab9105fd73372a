//! Faults: their kinds, the requests that they apply to, and how often.

use crate::handler::Request;

/// One fault. It replaces the answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// 401, as for a user whose password is right but who may not read this path.
    NotAuthorized,
    /// 403.
    Forbidden,
    /// 404, as in a version without this component.
    Absent,
    /// 503 with the web page of a BIG-IP whose mcpd loads the configuration, and with `Retry-After` in seconds.
    Loading(Option<u32>),
    /// 404, as long as a BIG-IP that starts has not registered the path yet. Unlike a BIG-IP, it has a `Retry-After` of 0, so that no test
    /// waits.
    NotRegistered,
    /// 500, if the connection to mcpd is lost. It has the same `Retry-After`.
    McpdLost,
    /// 302 to this URL.
    Redirect(String),
    /// 400 with an error message that repeats the request's credentials.
    Echo,
    /// The end of the connection in place of an answer.
    Close,
    /// 200 with the page on which people log in.
    LoginPage,
    /// 200 with a JSON text that is cut in the middle, with the right length in the header.
    CutJson,
    /// The first half of the answer, then the end of the connection.
    CutConnection,
    /// JSON that is no answer of iControl.
    OtherJson,
    /// An answer without an end.
    Endless,
    /// A link to this URL as the next page.
    NextLink(String),
    /// No answer before [`crate::BigIp::release`]; then the correct one.
    Hang,
    /// The first half of the answer, and the other one after [`crate::BigIp::release`].
    HangInBody,
}

/// How often a fault applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The next matching requests, this many.
    Next(usize),
    Always,
}

/// Selects requests: a request must meet all conditions that are set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matcher {
    path: Option<String>,
    query: Option<String>,
}

impl Matcher {
    /// Every request.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Only this path, without a query.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// Only queries that contain this text.
    #[must_use]
    pub fn query(mut self, text: &str) -> Self {
        self.query = Some(text.to_owned());
        self
    }

    fn matches(&self, request: &Request) -> bool {
        let Self { path, query } = self;
        path.as_ref().is_none_or(|path| *path == request.path)
            && query.as_ref().is_none_or(|text| request.query.contains(text))
    }
}

/// The active faults, oldest first, so that a sequence applies in the order in which a test gave it.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<(Matcher, Fault, Times)>);

impl Faults {
    pub(crate) fn add(&mut self, matcher: Matcher, fault: Fault, times: Times) {
        self.0.push((matcher, fault, times));
    }

    /// Takes the fault for a request, and counts it as used.
    pub(crate) fn take(&mut self, request: &Request) -> Option<Fault> {
        self.0.retain(|(_, _, times)| *times != Times::Next(0));
        let (_, fault, times) = self.0.iter_mut().find(|(matcher, ..)| matcher.matches(request))?;
        if let Times::Next(left) = times {
            *left -= 1;
        }
        Some(fault.clone())
    }
}
