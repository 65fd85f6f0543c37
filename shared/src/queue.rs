//! The job queue's data model: the job document, the arguments of each kind, schedules, error codes, and the ready set.
//!
//! The api enqueues with these types and the worker's engine runs them; neither depends on the other.

pub mod args;
pub mod backlog_peak;
pub mod cron;
pub mod error_code;
pub mod job;
pub mod job_operation;
pub mod new_job;
pub mod pause;
pub mod priority;
pub mod ready_set;
pub mod reporting;
pub mod schedule;
pub mod schedule_registry;
pub mod secret_box;
