//! Entity tags (RFC 9110, section 8.8.3).

use std::fmt;

use dezky_shared::{
    app::App, domain::Domain, member::Member, partner::Partner, queue::job::Job, tenant::Tenant,
    user::User,
};

/// The version of a document: `"generation.revision"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ETag {
    /// Incremented by every write of a caller.
    pub generation: i64,
    /// Incremented by every write.
    pub revision: i64,
}

impl ETag {
    /// The version of a document that only callers write.
    pub(crate) fn of_revision(revision: i64) -> Self {
        Self {
            generation: revision,
            revision,
        }
    }
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

impl From<&App> for ETag {
    fn from(app: &App) -> Self {
        Self {
            generation: app.generation,
            revision: app.revision,
        }
    }
}

impl From<&Member> for ETag {
    fn from(member: &Member) -> Self {
        Self {
            generation: member.generation,
            revision: member.revision,
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

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}.{}\"", self.generation, self.revision)
    }
}
