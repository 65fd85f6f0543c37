//! VAT id of a tenant's customer at Stripe. While Stripe refuses a new one, the customer keeps the old one.

use dezky_shared::queue::error_code::ErrorCode;
use dezky_upstreams::clients::stripe::{Customer, TaxId};

use super::{
    super::{
        keyed_calls::KeyedCalls,
        tax_id::{VatId, vat_id_of},
    },
    CustomerSync, gone,
};
use crate::steps::StepFailure;

/// Code of a tax id whose value does not match its type.
const TAX_ID_INVALID: &str = "tax_id_invalid";

impl CustomerSync<'_> {
    /// The tax id with the tenant's VAT id, created if there is none. If Stripe refuses it, the one before.
    pub(super) async fn ensure_tax_id(
        &mut self,
        customer: &Customer,
        known: &[TaxId],
    ) -> Result<Option<TaxId>, StepFailure> {
        let Some(vat_id) = vat_id_of(&self.tenant.billing_info) else {
            self.account.refused_vat_id = None;
            return Ok(None);
        };
        if let Some(found) = known.iter().find(|known| is_equal(known, &vat_id)) {
            self.account.refused_vat_id = None;
            return Ok(Some(found.clone()));
        }
        if self.account.refused_vat_id.as_ref() == Some(&vat_id.value) {
            return Ok(known.first().cloned());
        }
        let calls = KeyedCalls(self.run);
        let parameters = [customer.id.as_str(), vat_id.kind, vat_id.value.as_str()];
        // It is not among those that the customer has, so no call before had this effect.
        let call = calls.begin_repeatable("tax_id.create", self.tenant.id, &parameters);
        let call = call.await?;
        let sent = self
            .stripe
            .create_tax_id(&customer.id, vat_id.kind, &vat_id.value, &call.key())
            .await;
        calls
            .settle(&call, &sent, |created| Some(created.as_ref()?.id.as_str()))
            .await?;
        match sent {
            Ok(Some(created)) => {
                self.ensure_exists(customer, &created).await?;
                self.account.refused_vat_id = None;
                self.changes.push("VAT id added".to_owned());
                Ok(Some(created))
            }
            Ok(None) => Err(gone(customer)),
            Err(refused) if refused.code.as_deref() == Some(TAX_ID_INVALID) => {
                self.account.refused_vat_id = Some(vat_id.value);
                self.changes.push("VAT id refused".to_owned());
                Ok(known.first().cloned())
            }
            Err(failed) => Err(failed.into()),
        }
    }

    /// Fails if a tax id was deleted since the call that created it, whose result is replayed for a day. The call is
    /// settled, so the next attempt makes another one.
    async fn ensure_exists(&self, customer: &Customer, created: &TaxId) -> Result<(), StepFailure> {
        let known = self.stripe.list_tax_ids(&customer.id).await?;
        if known.iter().any(|known| known.id == created.id) {
            return Ok(());
        }
        let detail = format!("tax id {} was deleted meanwhile", created.id);
        Err(StepFailure::new(ErrorCode::UpstreamConflict, detail))
    }

    /// Removes tax ids that are not the tenant's any more. While a new one is refused, the old one stays.
    pub(super) async fn remove_tax_ids(
        &mut self,
        customer: &Customer,
        known: &[TaxId],
        kept: Option<&TaxId>,
    ) -> Result<(), StepFailure> {
        if self.account.refused_vat_id.is_some() {
            return Ok(());
        }
        for old in known {
            if kept.is_some_and(|kept| kept.id == old.id) {
                continue;
            }
            if self.stripe.delete_tax_id(&customer.id, &old.id).await? {
                self.changes.push("old VAT id removed".to_owned());
            }
        }
        Ok(())
    }
}

/// Whether the customer's tax id is the tenant's VAT id.
pub(super) fn is_equal(known: &TaxId, vat_id: &VatId) -> bool {
    known.kind == vat_id.kind && known.value == vat_id.value
}
