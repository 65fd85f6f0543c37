//! What handlers ask for in their signatures: who is calling, and what they say.

mod body;
mod caller;
mod conditional;
mod page;
mod path;
mod query;
mod request;
mod wait;

pub(crate) use self::{body::Object, caller::partner_of};
pub use self::{
    body::{Accept, NoBody, Submitted},
    caller::{
        Bearer, Caller, Inspect, Level, Manage, Operate, Operator, Own, PartnerAccess,
        PartnerLevel, PartnerTenant, Read, SignedIn, TenantAccess, Write,
    },
    conditional::{ETag, IfMatch, IfNoneMatch},
    page::{Cursor, Page, PageOf},
    path::{DomainInPath, IdInPath, PathParam},
    query::{FromQuery, Parameters, QueryParams},
    request::{RequestInfo, TrustedProxies},
    wait::{Prefer, Wait, longest_wait},
};
