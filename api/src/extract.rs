//! Extractors: the caller with their permissions, and the parts of the request.

mod body;
mod caller;
mod conditional;
mod page;
mod path;
mod query;
mod request;
mod wait;

pub use self::{
    body::{EmptyBody, Validate},
    caller::{
        Access, AccessControl, AccessState, Bearer, Caller, Manage, ManageTeam, Operator,
        OperatorOnly, PartnerAccess, PartnerLevel, PartnerTenant, Permission, Read, ReadPrivate,
        ReadWrite, SignedIn, TenantAccess,
    },
    conditional::{IfMatch, IfNoneMatch},
    page::{Cursor, Page, PageOf},
    path::{PathDomain, PathId, PathParam},
    query::{FromQuery, Parameters, QueryParams},
    request::RequestInfo,
    wait::{Prefer, Wait, max_wait},
};
pub(crate) use self::{
    body::{Object, media_type, parse, read_body},
    caller::active_partner_of,
};
