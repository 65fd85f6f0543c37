//! Search terms of an event. All terms are in one list, so that one multikey index answers every combination of filters
//! in time order.
//!
//! A term is a word of the action, the target's name, or the actor's name and address; or one of the exact values
//! `action:…`, `outcome:…`, `actor:…`. Words contain no colon. An operator's name and address yield no words: a reader
//! of a tenant's trail who may not see the acting operator must not be able to find them by searching.

use super::{Action, ActorKind, AuditEvent, Outcome};
use crate::unicode::composed;

/// Maximum number of words of one event.
const WORDS: usize = 32;
/// Maximum length of a word, in characters; longer words are truncated.
const WORD_LENGTH: usize = 40;

/// Words of a text: runs of letters and digits, in lower case and composed: an accent of its own would end the word.
pub fn words(text: &str) -> Vec<String> {
    let text = composed(text);
    let words = text
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty());
    let words = words.map(|word| {
        let letters = word.chars().flat_map(char::to_lowercase);
        letters.take(WORD_LENGTH).collect()
    });
    words.collect()
}

/// Words of an action: `billinginfo` for `tenant.billingInfo`, and also `billing` and `info`.
fn words_of(action: Action) -> Vec<String> {
    let name = action.to_string();
    let apart: String = name
        .chars()
        .flat_map(|character| {
            character
                .is_uppercase()
                .then_some(' ')
                .into_iter()
                .chain([character])
        })
        .collect();
    [words(&name), words(&apart)].concat()
}

/// Term that matches an action exactly.
pub(crate) fn of_action(action: Action) -> String {
    format!("action:{action}")
}

/// Term that matches an outcome exactly.
pub(crate) fn of_outcome(outcome: Outcome) -> String {
    format!("outcome:{outcome}")
}

/// Term that matches an actor's address exactly.
pub(crate) fn of_actor(email: &str) -> String {
    format!("actor:{}", email.to_lowercase())
}

impl AuditEvent {
    /// All search terms of the event.
    pub(crate) fn terms(&self) -> Vec<String> {
        let mut terms = Vec::new();
        // Actor first, so that a long target name does not crowd out the actor.
        if self.actor.kind != ActorKind::Operator {
            let texts = [&self.actor.email, &self.actor.name];
            terms.extend(texts.into_iter().flatten().flat_map(|text| words(text)));
        }
        terms.extend(
            words_of(self.action)
                .into_iter()
                .chain(words(&self.target.name)),
        );
        terms.truncate(WORDS);
        terms.extend([of_action(self.action), of_outcome(self.outcome)]);
        terms.extend(self.actor.email.as_deref().map(of_actor));
        terms.sort();
        terms.dedup();
        terms
    }
}

#[cfg(test)]
mod tests {
    use bson::DateTime;

    use super::*;
    use crate::audit::{Actor, Origin, Target};

    fn event(kind: ActorKind) -> AuditEvent {
        let actor = Actor {
            name: Some("Jane Doe".to_owned()),
            email: Some("J.Doe@acme.test".to_owned()),
            kind,
            ..Actor::system()
        };
        let target = Target {
            kind: "domain".to_owned(),
            id: "1".to_owned(),
            name: "Bücher.example".to_owned(),
        };
        let now = DateTime::from_millis(0);
        AuditEvent::new(now, actor, Action::DomainLost, target, Origin::default())
    }

    #[test]
    fn an_event_has_its_words_and_exact_values_as_terms() {
        let terms = event(ActorKind::Tenant).terms();

        let expected = [
            "acme",
            "action:domain.lost",
            "actor:j.doe@acme.test",
            "bücher",
            "doe",
            "domain",
            "example",
            "j",
            "jane",
            "lost",
            "outcome:done",
            "test",
        ];
        assert_eq!(terms, expected);
    }

    #[test]
    fn both_forms_of_a_letter_yield_the_same_word() {
        assert_eq!(words("Cafe\u{301} Ångström"), ["café", "ångström"]);
        assert_eq!(
            words("Caf\u{e9} A\u{30a}ngstro\u{308}m"),
            ["café", "ångström"]
        );
    }

    #[test]
    fn an_action_yields_the_parts_of_its_words() {
        let event = AuditEvent {
            action: Action::TenantBillingInfo,
            ..event(ActorKind::System)
        };

        let terms = event.terms();

        for word in ["tenant", "billinginfo", "billing", "info"] {
            assert!(terms.contains(&word.to_owned()), "{terms:?}");
        }
    }

    #[test]
    fn a_long_target_name_does_not_crowd_out_the_actor() {
        let mut event = event(ActorKind::Tenant);
        let long: Vec<String> = (0..100).map(|n| format!("word{n}")).collect();
        event.target.name = long.join(" ");

        let terms = event.terms();

        assert!(terms.contains(&"doe".to_owned()));
        assert!(terms.contains(&"word0".to_owned()));
        assert!(!terms.contains(&"word99".to_owned()));
    }

    #[test]
    fn the_words_of_an_operator_are_left_out() {
        let terms = event(ActorKind::Operator).terms();

        assert!(!terms.contains(&"doe".to_owned()));
        assert!(terms.contains(&"actor:j.doe@acme.test".to_owned()));
    }
}
