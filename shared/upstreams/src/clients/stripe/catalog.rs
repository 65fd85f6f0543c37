//! Products and prices, each found by a name that we give it: a product by its id, a price by its lookup key.

use serde::Deserialize;

use super::{Form, KeyedError, Stripe, segment};
use crate::clients::{ClientError, Operation};

const RETRIEVE_PRODUCT: Operation = Operation::read("retrieve_product");
const CREATE_PRODUCT: Operation = Operation::write("create_product");
const LIST_PRICES: Operation = Operation::read("list_prices");
const CREATE_PRICE: Operation = Operation::write("create_price");

/// Product.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Product {
    /// Id.
    pub id: String,
}

/// Price of a period. Its amount never changes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Price {
    /// Id.
    pub id: String,
    /// Id of its product.
    pub product: String,
    /// Currency, lower case.
    pub currency: String,
    /// Amount in Stripe's units; none for one with more decimals.
    #[serde(default)]
    pub unit_amount: Option<i64>,
    /// Length of the period; none for a price that is paid once.
    #[serde(default)]
    pub recurring: Option<Recurrence>,
}

/// Length of a period.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Recurrence {
    /// Unit: `day`, `week`, `month` or `year`.
    pub interval: String,
    /// Number of units.
    pub interval_count: i64,
}

/// Price to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPrice {
    /// Id of its product.
    pub product: String,
    /// Currency, lower case.
    pub currency: String,
    /// Amount in Stripe's units.
    pub unit_amount: i64,
    /// Length of the period in months.
    pub months: i32,
    /// Name by which it is found again.
    pub lookup_key: String,
}

impl Stripe {
    /// Reads a product. `None` if it does not exist.
    pub async fn retrieve_product(&self, id: &str) -> Result<Option<Product>, ClientError> {
        let path = format!("/v1/products/{}", segment(RETRIEVE_PRODUCT, id)?);
        self.get(RETRIEVE_PRODUCT, &path, &Form::new()).await
    }

    /// Creates a product with this id.
    pub async fn create_product(
        &self,
        id: &str,
        name: &str,
        key: &str,
    ) -> Result<Option<Product>, KeyedError> {
        let fields = [("id", id), ("name", name)];
        let fields: Form = fields
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        self.post(CREATE_PRODUCT, "/v1/products", &fields, key)
            .await
    }

    /// The active price with this lookup key.
    pub async fn find_price(&self, lookup_key: &str) -> Result<Option<Price>, ClientError> {
        let filter = [("lookup_keys[]", lookup_key), ("active", "true")];
        let found = self
            .list_all(LIST_PRICES, "/v1/prices", &filter, |it: &Price| &it.id)
            .await?;
        Ok(found.into_iter().next())
    }

    /// Creates a price. It takes the lookup key from an archived one. `None` if the product does not exist.
    pub async fn create_price(
        &self,
        new: &NewPrice,
        key: &str,
    ) -> Result<Option<Price>, KeyedError> {
        let mut fields = vec![
            ("product", new.product.clone()),
            ("currency", new.currency.clone()),
            ("unit_amount", new.unit_amount.to_string()),
            ("recurring[interval]", "month".to_owned()),
            ("recurring[interval_count]", new.months.to_string()),
            ("lookup_key", new.lookup_key.clone()),
            ("transfer_lookup_key", "true".to_owned()),
        ];
        if self.automatic_tax {
            fields.push(("tax_behavior", "exclusive".to_owned()));
        }
        let fields: Form = fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        self.post(CREATE_PRICE, "/v1/prices", &fields, key).await
    }
}
