//! The choice of one VTEP of a configuration, and with it of the BIG-IP that serves it.

use std::{net::Ipv4Addr, str::FromStr};

use ipnet::Ipv4Net;

use super::compare::{CiliumEnd, Comparison};

/// How a person names a VTEP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VtepChoice {
    Cidr(Ipv4Net),
    Endpoint(Ipv4Addr),
}

/// A text that names no VTEP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a vtep-cidr (10.1.6.0/24) nor a vtep-endpoint (10.169.72.34)")]
pub struct InvalidChoice(String);

impl FromStr for VtepChoice {
    type Err = InvalidChoice;

    fn from_str(text: &str) -> Result<Self, InvalidChoice> {
        let cidr = text.parse::<Ipv4Net>().map(|cidr| Self::Cidr(cidr.trunc()));
        cidr.or_else(|_| text.parse().map(Self::Endpoint)).map_err(|_| InvalidChoice(text.to_owned()))
    }
}

impl VtepChoice {
    #[must_use]
    pub fn is(self, cidr: Ipv4Net, endpoint: Ipv4Addr) -> bool {
        match self {
            Self::Cidr(chosen) => chosen == cidr,
            Self::Endpoint(chosen) => chosen == endpoint,
        }
    }

    /// Leaves only the chosen VTEPs in Cilium's end and in its comparison with the BIG-IPs.
    ///
    /// The comparison itself needs all VTEPs: a BIG-IP of another VTEP is not one that no VTEP names.
    pub fn restrict(self, cilium: &mut CiliumEnd, comparison: &mut Comparison) {
        let mut paired = Vec::new();
        let vteps = std::mem::take(&mut cilium.vteps).into_iter().zip(std::mem::take(&mut comparison.paired));
        for (vtep, devices) in vteps.filter(|(vtep, _)| self.is(vtep.cidr, vtep.endpoint)) {
            cilium.vteps.push(vtep);
            paired.push(devices);
        }
        comparison.paired = paired;
        let is_chosen = |cidr: Ipv4Net| cilium.vteps.iter().any(|vtep| vtep.cidr == cidr);
        comparison.differences.retain(|difference| difference.vtep.is_some_and(is_chosen));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vtep_is_named_by_its_cidr_or_its_endpoint() {
        let (cidr, endpoint) = ("10.1.6.0/24".parse().expect("a CIDR"), Ipv4Addr::new(10, 169, 72, 34));
        for (text, is_chosen) in [
            ("10.1.6.0/24", true),
            ("10.1.6.34/24", true),
            ("10.169.72.34", true),
            ("10.1.6.0/25", false),
            ("10.1.6.34", false),
            ("10.169.72.34/32", false),
        ] {
            let choice: VtepChoice = text.parse().expect("a VTEP's name");
            assert_eq!(choice.is(cidr, endpoint), is_chosen, "{text}");
        }
        for text in ["", "bigip-1", "10.1.6", "fd00::/64", "fd00::1"] {
            assert_eq!(text.parse::<VtepChoice>(), Err(InvalidChoice(text.to_owned())));
        }
    }
}
