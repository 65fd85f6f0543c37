//! The operators' console: sign-in with the simulated issuer, sessions, forms and pages, as a browser without scripts sees
//! them.

mod attacks;
mod browser;
mod deaths;
mod pages;
mod sign_in;
