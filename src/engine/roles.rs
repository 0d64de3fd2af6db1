//! What each role may do. See "Access" in `ARCHITECTURE.md` and `docs/security.md`.

use super::access::{Caller, LeaseScope, Permission, Resource, Rules, Verb};
use crate::operation::name::Queue;
use crate::record::tokens::{Role, RoleGrant};

/// The rules of a server whose callers have identities: each may do what it was granted.
#[derive(Clone, Copy, Debug)]
pub struct Roles;

impl Rules for Roles {
    fn allow(&self, caller: &Caller, verb: Verb, on: Resource<'_>) -> bool {
        match caller.identity().map(|known| &known.permission) {
            None => false,
            Some(Permission::Roles(grants)) => are_enough(grants, verb, on),
            Some(Permission::Link { name, verbs }) => {
                // Who may read an operation may wait for it.
                let verb = if verb == Verb::Wait { Verb::Get } else { verb };
                matches!(on, Resource::Operation(other) if other == name.as_str())
                    && verbs.contains(&verb)
            }
        }
    }

    fn lease_scope(&self, caller: &Caller, queue: &str) -> LeaseScope {
        let Some(Permission::Roles(grants)) = caller.identity().map(|known| &known.permission)
        else {
            return LeaseScope::below([]);
        };
        let leases = grants.iter().filter(|grant| {
            has(grant.role, Verb::Lease, Resource::Queue(queue)) && grant.covers_queue(queue)
        });
        LeaseScope::below(leases.map(|grant| grant.parent.as_str()))
    }

    fn is_audited(&self, verb: Verb, on: Resource<'_>) -> bool {
        match on {
            Resource::Parent(_) | Resource::Operation(_) => verb == Verb::Share,
            Resource::Queue(_) => is_for(verb, on, &[Role::Admin]),
            Resource::Queues
            | Resource::TypeSets(_)
            | Resource::TypeSet(_)
            | Resource::Jobs(_)
            | Resource::Job(_)
            | Resource::Execution(_)
            | Resource::WebhookEndpoints(_)
            | Resource::WebhookEndpoint(_)
            | Resource::WebhookDeliveries(_)
            | Resource::WebhookDelivery(_)
            | Resource::Tokens
            | Resource::Token(_) => !matches!(verb, Verb::Get | Verb::List),
            Resource::Store => true,
        }
    }
}

/// Whether one of these grants permits it. Where a grant holds everywhere the name of the resource is not read: that spares most
/// calls the time, and who may do all is told what is wrong with a name.
fn are_enough(grants: &[RoleGrant], verb: Verb, on: Resource<'_>) -> bool {
    let any = |holds: &dyn Fn(&RoleGrant) -> bool| {
        grants.iter().any(|grant| has(grant.role, verb, on) && holds(grant))
    };
    match on {
        Resource::Queues | Resource::Store | Resource::Tokens | Resource::Token(_) => {
            any(&RoleGrant::is_whole)
        }
        Resource::Queue(queue) => {
            any(&RoleGrant::covers_queues)
                || Queue::id_in(queue).is_ok_and(|id| any(&|grant| grant.covers_queue(id)))
        }
        Resource::Parent(_)
        | Resource::Operation(_)
        | Resource::TypeSets(_)
        | Resource::TypeSet(_)
        | Resource::Jobs(_)
        | Resource::Job(_)
        | Resource::Execution(_)
        | Resource::WebhookEndpoints(_)
        | Resource::WebhookEndpoint(_)
        | Resource::WebhookDeliveries(_)
        | Resource::WebhookDelivery(_) => {
            any(&RoleGrant::covers_parents)
                || on.parent().is_some_and(|parent| any(&|grant| grant.covers(parent)))
        }
    }
}

/// Whether a role has a verb there.
fn has(role: Role, verb: Verb, on: Resource<'_>) -> bool {
    role == Role::Admin || is_for(verb, on, &[role])
}

/// Whether a verb belongs to one of these roles. An administrator has all, and alone those that are not listed.
fn is_for(verb: Verb, on: Resource<'_>, roles: &[Role]) -> bool {
    const READERS: &[Role] = &[Role::Viewer, Role::Caller, Role::JobEditor];
    const EVERYONE: &[Role] = &[Role::Viewer, Role::Caller, Role::Worker, Role::JobEditor];
    let of = match on {
        Resource::Parent(_) | Resource::Operation(_) => match verb {
            Verb::Get | Verb::List | Verb::Wait | Verb::Watch => READERS,
            Verb::Share => &[Role::Viewer, Role::Caller],
            Verb::Start
            | Verb::Rerun
            | Verb::Cancel
            | Verb::Delete
            | Verb::Pause
            | Verb::Resume => &[Role::Caller],
            Verb::Lease
            | Verb::Renew
            | Verb::Report
            | Verb::Complete
            | Verb::Fail
            | Verb::Release
            | Verb::Suspend => &[Role::Worker],
            _ => &[Role::Admin],
        },
        Resource::Queues => match verb {
            Verb::Get | Verb::List => EVERYONE,
            _ => &[Role::Admin],
        },
        Resource::Queue(_) => match verb {
            Verb::Get | Verb::Watch => EVERYONE,
            // An editor of jobs says in which queue their runs start.
            Verb::Start => &[Role::Caller, Role::JobEditor],
            Verb::Lease | Verb::List => &[Role::Worker],
            _ => &[Role::Admin],
        },
        Resource::TypeSets(_) | Resource::TypeSet(_) => match verb {
            Verb::Get | Verb::List => EVERYONE,
            Verb::Create | Verb::Delete => &[Role::JobEditor],
            _ => &[Role::Admin],
        },
        Resource::Jobs(_) | Resource::Job(_) | Resource::Execution(_) => match verb {
            Verb::Get | Verb::List => READERS,
            Verb::Run | Verb::Backfill => &[Role::Caller],
            _ => &[Role::JobEditor],
        },
        Resource::WebhookEndpoints(_) | Resource::WebhookEndpoint(_) => match verb {
            Verb::Get | Verb::List => READERS,
            _ => &[Role::JobEditor],
        },
        Resource::WebhookDeliveries(_) | Resource::WebhookDelivery(_) => match verb {
            Verb::Get | Verb::List => READERS,
            Verb::Replay => &[Role::Caller, Role::JobEditor],
            _ => &[Role::Admin],
        },
        Resource::Store | Resource::Tokens | Resource::Token(_) => &[Role::Admin],
    };
    of.iter().any(|role| roles.contains(role))
}

#[cfg(test)]
mod tests {
    use super::super::access::KnownCaller;
    use super::*;
    use crate::clock::Timestamp;
    use crate::operation::name::{Name, Parent};

    fn caller(permission: Permission) -> Caller {
        let (id, expire_time) = ("token:t".to_owned(), Timestamp::MAX);
        Caller::known(KnownCaller { id, permission, expire_time })
    }

    fn with(role: Role) -> Caller {
        let parent = Parent::parse("projects/p").expect("a parent");
        let grant = RoleGrant::new(role, parent, vec!["q".to_owned()]).expect("a grant");
        caller(Permission::Roles(vec![grant]))
    }

    #[test]
    fn each_role_does_its_own_work_and_only_where_it_was_granted() {
        let (own, other) = ("projects/p/operations/o", "projects/x/operations/o");
        for (role, verb, allowed) in [
            (Role::Viewer, Verb::Get, true),
            (Role::Viewer, Verb::Cancel, false),
            (Role::Caller, Verb::Cancel, true),
            (Role::Caller, Verb::Complete, false),
            (Role::Worker, Verb::Complete, true),
            (Role::Worker, Verb::Get, false),
            (Role::JobEditor, Verb::Get, true),
            (Role::JobEditor, Verb::Delete, false),
            (Role::Admin, Verb::Complete, true),
        ] {
            assert_eq!(
                Roles.allow(&with(role), verb, Resource::Operation(own)),
                allowed,
                "{role:?}"
            );
            assert!(!Roles.allow(&with(role), verb, Resource::Operation(other)), "{role:?}");
        }
        // A start asks for both, so each must be denied by itself.
        for on in [Resource::Queue("q"), Resource::Parent("projects/p")] {
            assert!(!Roles.allow(&with(Role::Worker), Verb::Start, on), "{on}");
            assert!(!Roles.allow(&with(Role::Viewer), Verb::Start, on), "{on}");
            assert!(Roles.allow(&with(Role::Caller), Verb::Start, on), "{on}");
        }
        // An editor of jobs says where their runs start, and starts nothing itself.
        let editor = with(Role::JobEditor);
        assert!(Roles.allow(&editor, Verb::Start, Resource::Queue("q")));
        assert!(!Roles.allow(&editor, Verb::Start, Resource::Parent("projects/p")));
        for queue in ["q", "queues/q"] {
            assert!(Roles.allow(&with(Role::Worker), Verb::Lease, Resource::Queue(queue)));
        }
        for queue in ["", "other", "queues/queues/q", "q/"] {
            assert!(
                !Roles.allow(&with(Role::Worker), Verb::Lease, Resource::Queue(queue)),
                "{queue}"
            );
        }
        for whole in [Resource::Store, Resource::Tokens, Resource::Token("tokens/t")] {
            assert!(
                !Roles.allow(&with(Role::Admin), Verb::Get, whole),
                "an administrator of a part"
            );
        }
        assert!(!Roles.allow(&Caller::default(), Verb::Get, Resource::Operation(own)));
    }

    #[test]
    fn who_may_do_all_is_told_what_is_wrong_with_a_name() {
        let root = Parent::parse("").expect("a parent");
        let whole = RoleGrant::new(Role::Admin, root, Vec::new()).expect("a grant");
        let whole = caller(Permission::Roles(vec![whole]));
        for on in [Resource::Operation("Nonsense"), Resource::Queue("a b"), Resource::Job("jobs")] {
            assert!(Roles.allow(&whole, Verb::Get, on), "{on}");
            assert!(!Roles.allow(&with(Role::Admin), Verb::Get, on), "{on}");
        }
    }

    #[test]
    fn a_worker_gets_operations_of_the_parents_of_its_grants_in_that_queue() {
        let grant = |role: Role, parent: &str, queue: &str| {
            let parent = Parent::parse(parent).expect("a parent");
            RoleGrant::new(role, parent, vec![queue.to_owned()]).expect("a grant")
        };
        let own = caller(Permission::Roles(vec![
            grant(Role::Worker, "projects/p", "q"),
            grant(Role::Admin, "projects/a", "q*"),
            grant(Role::Caller, "projects/c", "q"),
            grant(Role::Worker, "projects/other", "other"),
        ]));
        let scope = Roles.lease_scope(&own, "q");
        for (parent, covered) in [
            ("projects/p", true),
            ("projects/p/locations/l", true),
            ("projects/a", true),
            ("projects/p2", false),
            ("projects/c", false),
            ("projects/other", false),
            ("", false),
        ] {
            assert_eq!(scope.covers(parent), covered, "{parent}");
        }
        let whole = caller(Permission::Roles(vec![
            grant(Role::Worker, "projects/p", "q"),
            grant(Role::Worker, "", "q"),
        ]));
        assert_eq!(Roles.lease_scope(&whole, "q"), LeaseScope::default());
        assert!(!Roles.lease_scope(&whole, "x").covers("projects/p"));
        assert!(!Roles.lease_scope(&Caller::default(), "q").covers(""));
    }

    #[test]
    fn a_link_is_for_its_verbs_on_its_operation() {
        let name = Name::parse("projects/p/operations/o").expect("a name");
        let link = caller(Permission::Link { name, verbs: vec![Verb::Get, Verb::Cancel] });
        let own = Resource::Operation("projects/p/operations/o");
        for verb in [Verb::Get, Verb::Wait, Verb::Cancel] {
            assert!(Roles.allow(&link, verb, own), "{verb:?}");
            assert!(!Roles.allow(&link, verb, Resource::Operation("projects/p/operations/o2")));
            assert!(!Roles.allow(&link, verb, Resource::Parent("projects/p")));
        }
        for verb in [Verb::Watch, Verb::Delete, Verb::Share, Verb::Complete] {
            assert!(!Roles.allow(&link, verb, own), "{verb:?}");
        }
    }
}
