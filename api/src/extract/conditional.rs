//! Conditional requests (RFC 9110, section 13).

use std::{convert::Infallible, fmt};

use axum::extract::FromRequestParts;
use dezky_shared::{domain::Domain, partner::Partner, queue::job::Job, tenant::Tenant, user::User};
use http::{HeaderMap, HeaderName, header, request::Parts};

use crate::error::{ApiError, ProblemCode};

/// The version of a document: `"generation.revision"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ETag {
    /// + 1 with every write by a caller.
    pub generation: i64,
    /// + 1 with every write.
    pub revision: i64,
}

impl From<&Tenant> for ETag {
    fn from(tenant: &Tenant) -> Self {
        Self {
            generation: tenant.generation,
            revision: tenant.revision,
        }
    }
}

impl From<&Domain> for ETag {
    fn from(domain: &Domain) -> Self {
        Self {
            generation: domain.generation,
            revision: domain.revision,
        }
    }
}

impl From<&Job> for ETag {
    fn from(job: &Job) -> Self {
        Self::of_revision(job.revision)
    }
}

impl From<&User> for ETag {
    fn from(user: &User) -> Self {
        Self::of_revision(user.revision)
    }
}

impl From<&Partner> for ETag {
    fn from(partner: &Partner) -> Self {
        Self::of_revision(partner.revision)
    }
}

impl ETag {
    /// The version of a document without upstream state.
    pub(crate) fn of_revision(revision: i64) -> Self {
        Self {
            generation: revision,
            revision,
        }
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}.{}\"", self.generation, self.revision)
    }
}

/// The versions a caller knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IfNoneMatch(Option<Tags>);

/// The versions a caller means to change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IfMatch(Option<Tags>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    Any,
    These(Vec<String>),
}

impl IfNoneMatch {
    /// Whether the caller said anything.
    pub fn is_present(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the caller knows this version. The comparison is weak: the sign of a weak tag does not count.
    pub fn matches(&self, etag: ETag) -> bool {
        let etag = etag.to_string();
        match &self.0 {
            None => false,
            Some(Tags::Any) => true,
            Some(Tags::These(tags)) => tags
                .iter()
                .any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == etag),
        }
    }
}

impl IfMatch {
    /// Refuses a change to a version that is not meant. Only the generation counts: the progress of a step must
    /// not refuse an edit. The comparison is strong: a weak tag is that of no version.
    pub fn check(&self, etag: ETag) -> Result<(), ApiError> {
        let generation = |tag: &String| {
            let tag = tag.strip_prefix('"')?.strip_suffix('"')?;
            let (generation, _) = tag.split_once('.')?;
            generation.parse::<i64>().ok()
        };
        let meant = match &self.0 {
            None | Some(Tags::Any) => true,
            Some(Tags::These(tags)) => tags
                .iter()
                .any(|tag| generation(tag) == Some(etag.generation)),
        };
        if meant {
            Ok(())
        } else {
            Err(ProblemCode::PreconditionFailed.into())
        }
    }
}

impl<S: Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(tags(&parts.headers, &header::IF_NONE_MATCH)))
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(tags(&parts.headers, &header::IF_MATCH)))
    }
}

/// The tags of a header. Nonsense is the tag of nothing.
fn tags(headers: &HeaderMap, name: &HeaderName) -> Option<Tags> {
    if !headers.contains_key(name) {
        return None;
    }
    let mut tags = Vec::new();
    for value in headers.get_all(name) {
        for tag in value.to_str().unwrap_or_default().split(',') {
            match tag.trim() {
                "*" => return Some(Tags::Any),
                tag => tags.push(tag.to_owned()),
            }
        }
    }
    Some(Tags::These(tags))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: ETag = ETag {
        generation: 3,
        revision: 12,
    };

    fn header_tags(value: &str) -> Option<Tags> {
        let headers = HeaderMap::from_iter([(header::IF_MATCH, value.parse().unwrap())]);
        tags(&headers, &header::IF_MATCH)
    }

    #[test]
    fn if_match_compares_only_the_generation() {
        let check = |value: &str| IfMatch(header_tags(value)).check(NOW).is_ok();

        assert!(check("\"3.12\"") && check("\"3.1\"") && check("*"));
        assert!(check("\"2.1\", \"3.4\""));
        assert!(!check("\"2.12\"") && !check("nonsense") && !check("") && !check("3.12"));
        assert!(!check("W/\"3.12\""));
        assert!(IfMatch(None).check(NOW).is_ok());
    }

    #[test]
    fn if_none_match_compares_all_of_it() {
        let knows = |value: &str| IfNoneMatch(header_tags(value)).matches(NOW);

        assert!(
            knows("\"3.12\"") && knows("W/\"3.12\"") && knows("\"1.1\",\"3.12\"") && knows("*")
        );
        assert!(!knows("\"3.11\"") && !knows("3.12") && !knows(""));
        assert!(!IfNoneMatch(None).matches(NOW));
    }
}
