//! What handlers ask for in their signatures: who is calling, and what they say.

mod body;
mod caller;
mod conditional;
mod page;
mod path;
mod query;
mod request;
mod wait;

pub(crate) use self::{body::Object, caller::active_partner_of};
pub use self::{
    body::{EmptyBody, Validate, ValidatedJson},
    caller::{
        Bearer, Caller, Manage, ManageTeam, Operator, OperatorOnly, PartnerAccess, PartnerLevel,
        PartnerTenant, Permission, Read, ReadPrivate, SignedIn, TenantAccess, Write,
    },
    conditional::{ETag, IfMatch, IfNoneMatch},
    page::{Cursor, Page, PageOf},
    path::{PathDomain, PathId, PathParam},
    query::{FromQuery, Parameters, QueryParams},
    request::{RequestInfo, TrustedProxies},
    wait::{Prefer, Wait, max_wait},
};
