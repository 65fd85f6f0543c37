//! Billing details of a tenant's customer at Stripe, set when their hash differs from that of the last ones.

use dezky_shared::stripe_call::{StripeCall, StripeCallState, request_hash};
use dezky_upstreams::clients::stripe::{Address, Customer, CustomerFields};

use super::{super::keyed_calls::KeyedCalls, CustomerSync, gone};
use crate::steps::StepFailure;

/// Operation that sets the billing details.
const UPDATE: &str = "customer.update";

impl CustomerSync<'_> {
    /// Sets the billing details, if they changed since they were last set.
    pub(super) async fn push_details(&mut self, customer: &Customer) -> Result<(), StepFailure> {
        let hash = self.details_hash();
        if self.has_details(&hash).await? {
            return Ok(());
        }
        let calls = KeyedCalls(self.run);
        let fields = self.details();
        let mut parameters = parameters(&fields);
        parameters.push(&customer.id);
        let call = calls.begin_repeatable(UPDATE, self.tenant.id, &parameters);
        let call = call.await?;
        let sent = self
            .stripe
            .update_customer(&customer.id, &fields, &call.key())
            .await;
        calls.settle(&call, &sent, |_| None).await?;
        if sent?.is_none() {
            return Err(gone(customer));
        }
        self.account.pushed_hash = Some(hash);
        self.save().await?;
        self.changes.push("customer updated".to_owned());
        Ok(())
    }

    /// Whether the customer has the details of this hash. After a call whose answer was lost, it may have others.
    pub(super) async fn has_details(&self, hash: &str) -> Result<bool, StepFailure> {
        if self.account.pushed_hash.as_deref() != Some(hash) {
            return Ok(false);
        }
        let id = StripeCall::id_of(UPDATE, self.tenant.id);
        let last = self.run.ctx.stripe_calls.find(&id).await?;
        Ok(last.is_none_or(|last| last.state != StripeCallState::Open))
    }

    /// The billing details that the customer should have.
    fn details(&self) -> CustomerFields {
        let info = &self.tenant.billing_info;
        let owner = self.tenant.owner.as_ref();
        let email = info.email.clone();
        CustomerFields {
            name: info
                .company
                .clone()
                .unwrap_or_else(|| self.tenant.name.clone()),
            email: email.or_else(|| owner.map(|owner| owner.email.clone())),
            address: Address {
                country: info.country.clone(),
            },
            tenant_id: self.tenant.id.to_string(),
        }
    }

    pub(super) fn details_hash(&self) -> String {
        request_hash(&parameters(&self.details()))
    }
}

/// The parameters by which requests with these fields differ.
fn parameters(fields: &CustomerFields) -> Vec<&str> {
    vec![
        fields.name.as_str(),
        fields.email.as_deref().unwrap_or_default(),
        fields.address.country.as_deref().unwrap_or_default(),
        fields.tenant_id.as_str(),
    ]
}
