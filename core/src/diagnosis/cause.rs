//! The verdicts and causes: their names are promises to scripts, dashboards and runbooks.

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Healthy,
    Degraded,
    Unreachable,
    Misconfigured,
    Unknown,
}

impl Verdict {
    /// The one that decides where there are several: what is known to fail before what works in part, and that before what is not known.
    #[must_use]
    pub fn worst(of: impl IntoIterator<Item = Self>) -> Option<Self> {
        of.into_iter().max_by_key(|verdict| match verdict {
            Self::Healthy => 0,
            Self::Unknown => 1,
            Self::Degraded => 2,
            Self::Misconfigured => 3,
            Self::Unreachable => 4,
        })
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unreachable => "unreachable",
            Self::Misconfigured => "misconfigured",
            Self::Unknown => "unknown",
        })
    }
}

/// Where the runbook lies in this project.
pub const RUNBOOK: &str = "docs/runbook.md";

macro_rules! causes {
    ($($name:ident $id:literal $verdict:ident;)+) => {
        /// The causes, nearest to the node first: each id is a promise to scripts, dashboards and runbooks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum Cause {
            $(#[doc = concat!("`", $id, "`")] #[serde(rename = $id)] $name,)+
        }

        impl Cause {
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)+ }
            }

            /// The id in CamelCase: the reason of Events and conditions.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// Its section of the runbook.
            #[must_use]
            pub fn section(self, runbook: &str) -> String {
                format!("{runbook}#{}", self.id())
            }

            #[must_use]
            pub const fn verdict(self) -> Verdict {
                match self { $(Self::$name => Verdict::$verdict,)+ }
            }
        }
    };
}

causes! {
    NodeKernelUnsupported "node-kernel-unsupported" Misconfigured;
    CiliumNotRunning "cilium-not-running" Unknown;
    CiliumBrokenRelease "cilium-broken-release" Misconfigured;
    CiliumArpZeroMac "cilium-arp-zero-mac" Misconfigured;
    CiliumVtepDisabled "cilium-vtep-disabled" Misconfigured;
    CiliumRestartRequired "cilium-restart-required" Misconfigured;
    DatapathMissing "datapath-missing" Misconfigured;
    DatapathContended "datapath-contended" Degraded;
    VtepCidrInUse "vtep-cidr-in-use" Degraded;
    EndpointNoRoute "endpoint-no-route" Unreachable;
    WrongUdpPort "wrong-udp-port" Misconfigured;
    WrongVni "wrong-vni" Misconfigured;
    WrongSource "wrong-source" Misconfigured;
    VtepMacMismatch "vtep-mac-mismatch" Misconfigured;
    EndpointUnreachable "endpoint-unreachable" Unreachable;
    TunnelSilent "tunnel-silent" Unreachable;
    ForeignInnerSource "foreign-inner-source" Degraded;
    NoReturnPath "no-return-path" Degraded;
    PathMtu "path-mtu" Degraded;
    PacketLoss "packet-loss" Degraded;
    SelfIpUnknown "self-ip-unknown" Unknown;
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id())
    }
}
