//! What an operator can do about how the cluster is: the sentences that name commands.

use dfs_p2p::ApartReason;
use dfs_server::health::{ClockOwner, Health, NotReady, Remedy};

/// The same health with what can be done in its message.
pub(super) fn with_remedy(mut health: Health) -> Health {
    if let Some(remedy) = &health.remedy {
        health.message = format!("{}; {}", health.message, sentence(remedy));
    }
    health
}

/// Why the node does not serve yet, and what can be done.
pub(super) fn told(not_ready: NotReady) -> String {
    let NotReady { reason, remedy } = not_ready;
    match &remedy {
        Some(remedy) => format!("{reason}; {}", sentence(remedy)),
        None => reason,
    }
}

fn sentence(remedy: &Remedy) -> String {
    match remedy {
        Remedy::LookAtScrub => "see 'dfs scrub status'".to_owned(),
        Remedy::FollowLoss(lost) => {
            let lost = lost.join(" ");
            format!("if that is right, 'dfs layout recover {lost}' follows them")
        }
        Remedy::Admit(nodes) => {
            let nodes = nodes.iter().map(|node| format!("'dfs admit {node}'"));
            let each = nodes.collect::<Vec<_>>().join(", ");
            format!("{each} lets it in")
        }
        Remedy::TakeOut(node) => format!(
            "'dfs drain {node}' takes it out, 'dfs remove --force {node}' at once; 'dfs admit \
             {node}' trusts it anew"
        ),
        Remedy::MakeRoom => "raise --capacity, free space, or add a node; the space of deleted \
                             files and old versions comes back after 30 days, and sooner with \
                             'dfs purge'"
            .to_owned(),
        Remedy::EndDrain(node) => {
            format!("start it again; if it is gone for good, 'dfs remove {node}' ends the drain")
        }
        Remedy::StartNodes => "start them, or 'dfs remove' those that are gone".to_owned(),
        Remedy::FreeDisk => {
            "free that disk of other things, or move the node to a larger one; what \
                             is missing is fetched then"
                .to_owned()
        }
        Remedy::MendDisk => {
            "see what the kernel's log says of it, mend or replace it, and restart \
                             the node"
                .to_owned()
        }
        Remedy::AskOthers => "ask whoever runs them before you do anything to it".to_owned(),
        Remedy::NameAddress(dialled) if dialled.is_empty() => {
            "restart this node with '--bootstrap ADDR', an address of one of them".to_owned()
        }
        Remedy::NameAddress(dialled) => format!(
            "this node dials {}; if they have other addresses now, restart it with '--bootstrap \
             ADDR', one of those",
            dialled.join(" and ")
        ),
        Remedy::JoinApart(reason) => join(*reason).to_owned(),
        Remedy::SetClock(owner) => {
            let machine = match owner {
                ClockOwner::Own => "on this machine".to_owned(),
                ClockOwner::Other(node) => format!("on the machine of {node}"),
                ClockOwner::Unknown => "on the machine that is wrong".to_owned(),
            };
            format!("set the clock {machine}, best by NTP; 'dfs peers' shows all clocks")
        }
    }
}

/// What brings two nodes together that are kept apart.
fn join(reason: ApartReason) -> &'static str {
    match reason {
        ApartReason::KeyThere => {
            "to let it join, run 'dfs key export --cluster' here and 'dfs key import --cluster \
             --replace' there, or copy cluster.key from this node's config directory into its own, \
             and restart it"
        }
        ApartReason::KeyHere => {
            "to join it, run 'dfs key export --cluster' there and 'dfs key import --cluster \
             --replace' here, or copy cluster.key from its config directory into this node's, and \
             restart this node"
        }
        ApartReason::OtherCluster => {
            "to have one of the two nodes join the other's cluster, start it with --new-node and \
             an empty data directory"
        }
        ApartReason::Incompatible { .. } => "update the older of the two",
        ApartReason::Former => "start it with --new-node and an empty data directory",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_dialled_in_vain_are_named() {
        let dialled = vec!["10.0.0.1:3000".to_owned(), "10.0.0.2:3000".to_owned()];
        assert_eq!(
            sentence(&Remedy::NameAddress(dialled)),
            "this node dials 10.0.0.1:3000 and 10.0.0.2:3000; if they have other addresses now, \
             restart it with '--bootstrap ADDR', one of those"
        );
    }

    #[test]
    fn a_loss_that_others_went_on_without_names_the_command_to_follow() {
        let lost = vec!["0a0b0c0d".to_owned(), "01020304".to_owned()];
        let sentence = sentence(&Remedy::FollowLoss(lost));
        assert_eq!(
            sentence,
            "if that is right, 'dfs layout recover 0a0b0c0d 01020304' follows them"
        );
    }
}
