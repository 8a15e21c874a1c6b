use proptest::prelude::*;

use super::*;

fn tag(of: &str) -> Tag {
    Tag::new(*blake3::hash(of.as_bytes()).as_bytes().first_chunk().unwrap())
}

fn name(of: &str, is_dir: bool, bytes: u64) -> (Tag, ListedName) {
    let listed = ListedName {
        name: of.into(),
        dir: is_dir.then(|| DirId::new(*tag(of).as_bytes())),
        bytes: if is_dir { 0 } else { bytes },
        modified_ms: bytes,
        permissions: None,
        mtime: None,
        link: None,
        vid: Vid::new([1; 16]),
        digest: HeadsDigest::new(bytes.to_be_bytes()),
        in_conflict: bytes.is_multiple_of(3),
    };
    (tag(of), listed)
}

/// The same by simple means.
fn check(listing: &Listing, model: &BTreeMap<Tag, ListedName>) {
    let mut sorted: Vec<_> = model.values().cloned().collect();
    sorted.sort_by_key(ListedName::order);
    assert_eq!(listing.page(Bound::Unbounded, "", usize::MAX), (sorted.clone(), false));
    assert_eq!((listing.len(), listing.is_empty()), (model.len(), model.is_empty()));
    let mut totals = Totals::default();
    sorted.iter().for_each(|name| totals.count_in(name));
    assert_eq!(listing.totals(), totals);
    let digests: BTreeMap<_, _> = model.iter().map(|(tag, name)| (*tag, name.digest)).collect();
    assert_eq!(listing.digests().collect::<BTreeMap<_, _>>(), digests);
    assert_eq!(listing.digests_of(&model.keys().copied().collect()), digests);
    assert_eq!(listing.dirs().count(), sorted.iter().filter(|name| name.dir.is_some()).count());
    assert!(listing.blocks.iter().all(|block| !block.names.is_empty()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]
    #[test]
    fn it_says_what_a_sorted_map_would(
        rounds in prop::collection::vec(
            prop::collection::vec(("[a-c./0]{1,3}", any::<bool>(), 0u64..9, any::<bool>()), 0..700),
            1..6,
        ),
        from in "[a-c./0]{0,3}",
        prefix in "[a-c]{0,2}",
        limit in 0usize..20,
    ) {
        let (mut listing, mut model) = (Listing::default(), BTreeMap::new());
        for round in rounds {
            let mut changes = BTreeMap::new();
            for (of, is_dir, bytes, stays) in round {
                let (tag, name) = name(&of.replace('/', "x"), is_dir, bytes);
                changes.insert(tag, stays.then_some(name));
            }
            for (tag, name) in &changes {
                match name {
                    Some(name) => model.insert(*tag, name.clone()),
                    None => model.remove(tag),
                };
            }
            listing.apply(changes.into_iter().collect());
            check(&listing, &model);
        }
        let mut sorted: Vec<_> = model.into_values().collect();
        sorted.sort_by_key(ListedName::order);
        sorted.retain(|name| name.name.starts_with(&prefix));
        for bound in [Bound::Included(&*from), Bound::Excluded(&*from)] {
            let is_in = |name: &&ListedName| match bound {
                Bound::Included(from) => *name.order() >= *from,
                _ => *name.order() > *from,
            };
            let all: Vec<_> = sorted.iter().filter(is_in).cloned().collect();
            let page: Vec<_> = all.iter().take(limit).cloned().collect();
            prop_assert_eq!(listing.page(bound, &prefix, limit), (page, all.len() > limit));
        }
    }
}

#[test]
fn many_names_one_by_one_and_at_once_are_the_same() {
    let named = |at| name(&format!("{:04}", at * 7 % 5_000), false, at);
    let names: Vec<_> = (0..5_000).map(named).collect();
    let (mut at_once, mut one_by_one) = (Listing::default(), Listing::default());
    at_once.apply(names.iter().cloned().map(|(tag, name)| (tag, Some(name))).collect());
    for (tag, name) in names {
        one_by_one.apply(vec![(tag, Some(name))]);
    }
    let all = |listing: &Listing| listing.page(Bound::Unbounded, "", usize::MAX);
    assert_eq!(all(&at_once), all(&one_by_one));
    assert_eq!(at_once.totals(), one_by_one.totals());
}
