//! Objects and clock of the simulated Stripe, as a file keeps them while the simulator is stopped.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::{Value, json};

use super::state::State;

/// The part of the state that survives a restart.
#[derive(Debug, Deserialize)]
struct Saved {
    objects: Vec<Value>,
    undelivered: VecDeque<String>,
    ahead: i64,
}

impl State {
    pub(super) fn saved(&self) -> Value {
        json!({ "objects": self.objects(), "undelivered": self.undelivered, "ahead": self.ahead })
    }

    pub(super) fn restore(&mut self, saved: Value) -> serde_json::Result<()> {
        let Saved {
            objects,
            undelivered,
            ahead,
        } = serde_json::from_value(saved)?;
        for object in objects {
            self.put(object);
        }
        self.undelivered = undelivered;
        self.ahead = ahead;
        Ok(())
    }
}
