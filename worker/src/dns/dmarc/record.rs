//! DMARC record parser (RFC 9989, section 4.7; RFC 7489, section 6.3).

use dezky_shared::domain::DmarcPolicy;

use crate::dns::{
    report_uri::Mailbox,
    tags::{Tags, is_space},
};

/// A record that receivers apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DmarcRecord {
    pub(super) policy: DmarcPolicy,
    /// `sp=`: the policy for subdomains, if it differs.
    pub(super) subdomains: Option<DmarcPolicy>,
    /// `np=`: the policy for subdomains that do not exist, if it differs.
    pub(super) non_existent: Option<DmarcPolicy>,
    /// `psd=y`: a public suffix. `psd=n`: an organizational domain.
    pub(super) public_suffix: Option<bool>,
    /// `t=y`: receivers apply the next weaker policy.
    pub(super) testing: bool,
    /// `pct=` below 100, which receivers older than RFC 9989 apply.
    pub(super) partial: bool,
    /// The destinations of aggregate reports.
    pub(super) rua: Vec<String>,
    /// The invalid policy tag because of which receivers act as if the record had `p=none` alone.
    pub(super) invalid_tag: Option<String>,
}

/// A record that receivers ignore because of this policy tag.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidPolicy(pub(super) String);

impl DmarcRecord {
    /// Whether a text is a DMARC record, valid or not. It begins with its version, without blanks before it (RFC 9989,
    /// section 4.8).
    pub(super) fn is_one(text: &str) -> bool {
        !text.starts_with(is_space)
            && Tags::dmarc(text.split(';').next().unwrap_or_default()).begins_with("DMARC1")
    }

    /// Parses a record. Without a valid `p=`, or with an invalid `sp=` or `np=`, it counts as `p=none` if it has a valid
    /// `rua=`, and is ignored otherwise (RFC 7489, section 6.6.3; RFC 9989, section 4.10.1).
    pub(super) fn parse(text: &str) -> Result<Self, InvalidPolicy> {
        let tags = Tags::dmarc(text);
        let flag = |name, value: &str| {
            let found: Option<&str> = tags.get(name);
            found.is_some_and(|found| found.eq_ignore_ascii_case(value))
        };
        let rua = tags.get("rua").unwrap_or_default().split(',');
        let rua: Vec<String> = rua
            .map(|uri| uri.trim_matches(is_space).to_owned())
            .filter(|uri| !uri.is_empty())
            .collect();
        let policies = policies(&tags);
        let ([policy, subdomains, non_existent], invalid_tag) = match policies {
            Ok(policies) => (policies, None),
            Err(tag) if rua.iter().any(|uri| Mailbox::of_uri(uri).is_some()) => {
                ([Some(DmarcPolicy::None), None, None], Some(tag))
            }
            Err(tag) => return Err(InvalidPolicy(tag)),
        };
        Ok(Self {
            policy: policy.unwrap_or(DmarcPolicy::None),
            subdomains,
            non_existent,
            public_suffix: match (flag("psd", "y"), flag("psd", "n")) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            },
            testing: flag("t", "y"),
            partial: tags
                .get("pct")
                .and_then(|share| share.parse::<u8>().ok())
                .is_some_and(|share| share < 100),
            rua,
            invalid_tag,
        })
    }
}

/// The policies of `p=`, `sp=` and `np=`, or the first tag that is invalid.
fn policies(tags: &Tags<'_>) -> Result<[Option<DmarcPolicy>; 3], String> {
    let mut policies = [None; 3];
    for (name, place) in ["p", "sp", "np"].into_iter().zip(&mut policies) {
        let value = tags.get(name);
        *place = value.and_then(policy);
        let is_optional = name != "p";
        if place.is_none() && !(is_optional && value.is_none()) {
            return Err(format!("{name}={}", value.unwrap_or_default()));
        }
    }
    Ok(policies)
}

fn policy(text: &str) -> Option<DmarcPolicy> {
    [
        DmarcPolicy::None,
        DmarcPolicy::Quarantine,
        DmarcPolicy::Reject,
    ]
    .into_iter()
    .find(|policy| policy.name().eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::any, proptest};

    use super::*;

    #[test]
    fn a_record_begins_with_its_version() {
        for text in ["v=DMARC1; p=none", "v = DMARC1 ;p=none", "v=DMARC1"] {
            assert!(DmarcRecord::is_one(text), "{text:?}");
        }
        for text in [
            " v=DMARC1; p=none",
            "\tv=DMARC1; p=none",
            "p=none; v=DMARC1",
            "v=DMARC2",
        ] {
            assert!(!DmarcRecord::is_one(text), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_can_be_parsed(text in any::<String>()) {
            let _ = DmarcRecord::is_one(&text);
            let _ = DmarcRecord::parse(&format!("v=DMARC1; p={text}; rua={text}"));
        }
    }
}
