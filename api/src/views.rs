//! Representations that several resources share.

mod condition;
mod job_link;

pub use self::{
    condition::ConditionView,
    job_link::{JobLink, job_href},
};
