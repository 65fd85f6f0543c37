//! The operators' console: sign-in with the simulated issuer, sessions, forms and pages, as a browser without scripts sees
//! them.

mod attacks;
mod audit;
mod billing;
mod browser;
mod deaths;
mod forms;
mod history;
mod jobs;
mod live;
mod markup;
mod oidc_provider;
mod pages;
mod partners;
mod platform;
mod sign_in;
