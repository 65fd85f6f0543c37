//! Failure of each call of the kinds about a member.

use super::each_call_fails;
use crate::scenarios;

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_a_member_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::PROVISION_MEMBER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_a_changed_member_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::PROVISION_MEMBER_CHANGED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provisioning_a_member_of_a_suspended_tenant_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::PROVISION_MEMBER_SUSPENDED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspending_a_member_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SUSPEND_MEMBER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspending_a_shared_member_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SUSPEND_SHARED_MEMBER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resuming_a_member_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::RESUME_MEMBER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_member_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::REMOVE_MEMBER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_shared_member_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::REMOVE_SHARED_MEMBER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_a_member_out_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::SIGN_OUT_MEMBER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resetting_a_password_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::RESET_PASSWORD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_to_remove_a_member_survives_a_failure_of_each_call() {
    each_call_fails(&scenarios::DELETE_MEMBER).await;
}
