//! What a voter keeps of decisions, of ordinary epochs and of those that begin a generation.

use dfs_core::id::NodeId;
use dfs_core::layout::epoch::EpochProposal;
use dfs_core::paxos::{Ballot, Register};

use super::*;

const BEGINNING: u64 = 1 << 32;

fn ballot(round: u32) -> Ballot {
    Ballot { round, node: NodeId::new([1; 32]) }
}

fn proposal(epoch: u64) -> EpochProposal {
    EpochProposal {
        generation: 0,
        epoch,
        previous: [0; 32],
        ops: Vec::new(),
        state_hash: [0; 32],
        authority: None,
        proposer: NodeId::new([1; 32]),
    }
}

async fn promise(store: &Store, epoch: u64, round: u32) -> Option<Register<EpochProposal>> {
    let promised = move |register: &mut Register<EpochProposal>| {
        let _ = register.prepare(ballot(round));
    };
    store.vote(epoch, promised).await.unwrap()
}

async fn accept(store: &Store, epoch: u64, round: u32) -> Option<Register<EpochProposal>> {
    let accepted = move |register: &mut Register<EpochProposal>| {
        let _ = register.accept(ballot(round), proposal(epoch));
    };
    store.vote(epoch, accepted).await.unwrap()
}

#[tokio::test]
async fn a_vote_is_kept_until_a_later_epoch_is_voted_on() {
    let disk = Disk::new();
    let store = disk.open().await;
    assert_eq!(promise(&store, 5, 1).await.unwrap().promised(), Some(ballot(1)));
    assert!(accept(&store, 5, 1).await.unwrap().accepted().is_some());
    store.close().await;
    disk.fs.crash();
    let store = disk.open().await;
    assert_eq!(promise(&store, 5, 1).await.unwrap().accepted().unwrap().0, ballot(1));
    assert!(promise(&store, 6, 1).await.unwrap().accepted().is_none());
    assert!(promise(&store, 5, 9).await.is_none());
}

#[tokio::test]
async fn a_promise_for_a_new_generation_ends_no_vote_and_an_acceptance_does() {
    let store = Disk::new().open().await;
    promise(&store, 5, 1).await.unwrap();
    promise(&store, BEGINNING, 7).await.unwrap();
    // Told of a loss that nobody else was told of, this voter still votes with the others.
    assert!(accept(&store, 5, 1).await.unwrap().accepted().is_some());
    promise(&store, 6, 1).await.unwrap();
    // And it keeps the promise: no lower ballot begins the generation.
    let kept = promise(&store, BEGINNING, 3).await.unwrap();
    assert_eq!(kept.promised(), Some(ballot(7)));
    accept(&store, BEGINNING, 7).await.unwrap();
    // What may have begun goes before all that the generation before could reach.
    assert!(promise(&store, 6, 2).await.is_none());
    assert!(promise(&store, 7, 1).await.is_none());
    assert!(promise(&store, BEGINNING + 1, 1).await.is_some());
}

#[tokio::test]
async fn a_vote_that_an_earlier_program_kept_for_a_new_generation_counts() {
    for accepted in [false, true] {
        let store = Disk::new().open().await;
        let mut register = Register::default();
        register.prepare(ballot(7)).unwrap();
        if accepted {
            register.accept(ballot(7), proposal(BEGINNING)).unwrap();
        }
        let mut kept = BEGINNING.to_be_bytes().to_vec();
        kept.extend(register.to_canonical());
        store.put_state("vote", kept).await.unwrap();
        assert_eq!(promise(&store, 6, 1).await.is_none(), accepted);
        assert_eq!(promise(&store, BEGINNING, 3).await.unwrap(), register);
    }
}
