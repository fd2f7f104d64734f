//! The ledger's table.

use super::Desired;
use crate::kind::table::{Key, KeyAttribute, Table};
use crate::resource::Properties;

impl Desired<'_> {
    pub(super) fn ledger(&mut self) {
        let name = self.owner.deployment.ledger_table();
        // Of all that the ledger's keys are made of, only what is due is no text.
        let attribute = |name: &str| match name {
            "due_at" => KeyAttribute::number(name),
            _ => KeyAttribute::text(name),
        };
        let index = |(name, hash, range): (&str, &str, Option<&str>)| {
            (name.to_owned(), Key { hash: attribute(hash), range: range.map(attribute) })
        };
        let table = Table {
            arn: self.owner.place.table_arn(&name),
            name,
            key: Key { hash: attribute(bellwire_ledger::KEY), range: None },
            indexes: bellwire_ledger::INDEXES.map(index).into(),
            expiry_attribute: Some(bellwire_ledger::EXPIRY_ATTRIBUTE.to_owned()),
            point_in_time_recovery: true,
            deletion_protection: self.workflow.ledger.deletion_protection,
            tags: self.owner.tags(),
        };
        self.add(Properties::Table(table), vec![]);
    }
}
