//! One decision, by table: what an acceptor refuses, and what a proposer does with answers.

use super::epoch::node;
use crate::codec::{Canonical, DecodeError};
use crate::id::Vid;
use crate::paxos::{Ballot, Heard, Next, Proposer, Register, acceptance_of, promise_of};

fn ballot(round: u32, of: u8) -> Ballot {
    Ballot { round, node: node(of) }
}

fn proposer(sets: &[&[u8]]) -> Proposer<u8> {
    let sets = sets.iter().map(|set| set.iter().map(|of| node(*of)).collect()).collect();
    Proposer::new(ballot(5, 1), sets)
}

#[test]
fn a_promise_shuts_out_lower_ballots_and_the_same_one() {
    let mut register = Register::<u8>::default();
    assert_eq!(register.prepare(ballot(2, 1)), Ok(None));
    assert_eq!(register.prepare(ballot(2, 1)), Err(ballot(2, 1)));
    assert_eq!(register.prepare(ballot(1, 1)), Err(ballot(2, 1)));
    assert_eq!(register.accept(ballot(1, 1), 7), Err(ballot(2, 1)));
    assert_eq!(register.accept(ballot(2, 1), 7), Ok(()));
    assert_eq!(register.prepare(ballot(3, 1)), Ok(Some((ballot(2, 1), 7))));
}

#[test]
fn one_ballot_carries_one_value_however_often_it_comes() {
    let mut register = Register::default();
    assert_eq!(register.accept(ballot(2, 1), 7), Ok(()));
    assert_eq!(register.accept(ballot(2, 1), 7), Ok(()));
    assert_eq!(register.accept(ballot(2, 1), 8), Err(ballot(2, 1)));
    assert_eq!(register.accepted(), Some(&(ballot(2, 1), 7)));
}

#[test]
fn an_acceptor_stands_by_the_value_it_accepted_until_it_promises_more() {
    let (low, high) = (ballot(2, 1), ballot(3, 1));
    let mut register = Register::default();
    register.prepare(low).unwrap();
    assert!(!register.stands_by(low, &7));
    register.accept(low, 7).unwrap();
    let _ = register.accept(low, 8);
    assert!(register.stands_by(low, &7));
    assert!(!register.stands_by(low, &8), "the ballot carried another value");
    assert!(!register.stands_by(high, &7));
    register.prepare(high).unwrap();
    assert!(!register.stands_by(low, &7));
}

#[test]
fn accepting_is_a_promise_too() {
    let mut register = Register::default();
    assert_eq!(register.accept(ballot(4, 1), 7), Ok(()));
    assert_eq!(register.prepare(ballot(3, 1)), Err(ballot(4, 1)));
    assert_eq!(Register::of(None, Some((ballot(4, 1), 7))), register);
}

#[test]
fn merged_registers_keep_the_higher_ballots() {
    let ours = Register::of(Some(ballot(9, 1)), Some((ballot(2, 1), 7)));
    let theirs = Register::of(Some(ballot(4, 1)), Some((ballot(3, 1), 8)));
    let expected = Register::of(Some(ballot(9, 1)), Some((ballot(3, 1), 8)));
    for (mut one, other) in [(ours.clone(), &theirs), (theirs.clone(), &ours)] {
        one.merge(other);
        one.merge(&Register::default());
        assert_eq!(one, expected);
    }
}

#[test]
fn what_an_acceptor_took_over_and_refused_is_not_accepted_by_it() {
    let (low, high) = (ballot(2, 1), ballot(3, 2));
    let mut other = Register::default();
    other.prepare(low).unwrap();
    other.accept(low, 7).unwrap();
    let mut register = Register::default();
    register.prepare(high).unwrap();
    register.merge(&other);
    assert_eq!(register.accept(low, 7), Err(high));
    assert_eq!(register.accepted(), Some(&(low, 7)), "it tells of it all the same");
    assert_eq!(acceptance_of(&register, low), Heard::Refused(high));
    assert_eq!(promise_of(&register, high), Heard::Promised(Some((low, 7))));
}

#[test]
fn answers_are_the_same_when_a_call_is_repeated_until_a_higher_ballot_comes() {
    let (low, high) = (ballot(2, 1), ballot(3, 2));
    let mut register = Register::default();
    assert_eq!(promise_of(&register, low), Heard::Failed);
    for _ in 0..2 {
        let _ = register.prepare(low);
        assert_eq!(promise_of(&register, low), Heard::Promised(None));
        assert_eq!(acceptance_of(&register, low), Heard::Failed);
    }
    for _ in 0..2 {
        let _ = register.accept(low, 7);
        assert_eq!(acceptance_of(&register, low), Heard::Accepted);
    }
    register.prepare(high).unwrap();
    let _ = register.accept(low, 7);
    assert_eq!(acceptance_of(&register, low), Heard::Refused(high));
    assert_eq!(promise_of(&register, low), Heard::Refused(high));
}

#[test]
fn a_free_value_is_chosen_by_a_majority_of_each_set() {
    let mut proposer = proposer(&[&[1, 2, 3], &[3, 4]]);
    assert_eq!(proposer.acceptors().len(), 4);
    assert_eq!(proposer.promised(node(1), None), Next::Wait);
    assert_eq!(proposer.promised(node(3), None), Next::Wait);
    assert_eq!(proposer.promised(node(3), None), Next::Wait);
    assert_eq!(proposer.promised(node(4), None), Next::Choose(None));
    assert_eq!(proposer.promised(node(2), None), Next::Wait, "too late to matter");
    proposer.choose(7);
    assert_eq!(proposer.accepted(node(3)), Next::Wait);
    assert_eq!(proposer.accepted(node(4)), Next::Wait);
    assert_eq!(proposer.accepted(node(1)), Next::Chosen(7));
    assert_eq!(proposer.accepted(node(2)), Next::Wait, "once is enough");
}

#[test]
fn the_value_under_the_highest_ballot_is_found() {
    let mut proposer = proposer(&[&[1, 2, 3, 4, 5]]);
    proposer.promised(node(1), Some((ballot(2, 1), 7)));
    proposer.promised(node(2), Some((ballot(3, 1), 8)));
    assert_eq!(proposer.promised(node(3), None), Next::Choose(Some(8)));
}

#[test]
fn an_attempt_is_lost_once_a_majority_is_out_of_reach() {
    let mut proposer = proposer(&[&[1, 2, 3]]);
    assert_eq!(proposer.refused(node(1), ballot(9, 2)), Next::Wait);
    assert_eq!(proposer.failed(node(1)), Next::Wait, "one node fails once");
    assert_eq!(proposer.failed(node(2)), Next::Lost { higher: Some(ballot(9, 2)) });
    assert_eq!(proposer.failed(node(3)), Next::Wait, "it is over");
    assert_eq!(Ballot::above(Some(ballot(9, 2)), node(1)), ballot(10, 1));
}

#[test]
fn a_choice_out_of_turn_changes_nothing() {
    let mut proposer = proposer(&[&[1]]);
    proposer.choose(7);
    assert_eq!(proposer.accepted(node(1)), Next::Wait);
    assert_eq!(proposer.promised(node(1), None), Next::Choose(None));
    assert_eq!(proposer.failed(node(1)), Next::Wait);
    proposer.choose(8);
    assert_eq!(proposer.accepted(node(1)), Next::Chosen(8));
}

#[test]
fn registers_come_back_and_impossible_ones_are_refused() {
    let value = Vid::new([7; 16]);
    let promised = Register::<Vid>::of(Some(ballot(2, 1)), None);
    let accepted = Register::of(Some(ballot(3, 1)), Some((ballot(2, 1), value)));
    for register in [Register::default(), promised, accepted.clone()] {
        let bytes = register.to_canonical();
        assert_eq!(Register::from_canonical(bytes.clone()), Ok(register));
        for len in 0..bytes.len() {
            assert!(Register::<Vid>::from_canonical(bytes[..len].to_vec()).is_err());
        }
    }
    let mut bytes = accepted.to_canonical();
    bytes[4] = 1; // Promised round 1, accepted round 2.
    assert_eq!(Register::<Vid>::from_canonical(bytes), Err(DecodeError::Invalid("promised")));
    assert_eq!(Register::<Vid>::from_canonical(vec![2, 0]), Err(DecodeError::Invalid("flag")));
}
