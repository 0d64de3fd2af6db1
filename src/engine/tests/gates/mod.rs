//! Gates: limits hold on two servers, on every store, and whatever crash comes between two steps.

mod crashes;
mod keys;
mod limits;
mod lines;
mod schedules;

use crate::operation::gate::GateName;
use crate::record::gate::GateRecord;
use crate::store::{Key, Keyspace};

#[test]
fn no_operation_s_name_leads_to_a_gate() {
    let keyspace = Keyspace::generate(1);
    let gate = GateName::Queue("q".to_owned());
    let key: Key = GateRecord::key(&keyspace, &gate);
    assert_ne!(key, keyspace.key("queue\0q"));
    assert_ne!(gate.index(), GateName::Queue("p".to_owned()).index());
}
