use super::*;

const ROOMY: Bounds = Bounds { size: 1 << 20, full: WhenFull::DropOldest };

fn opened(dir: &Path, bounds: Bounds) -> (Queue, Damage) {
    Queue::open(dir, bounds).unwrap()
}

fn fill(queue: &Queue, from: usize, to: usize) {
    for i in from..to {
        assert!(matches!(queue.append(format!("record {i}").as_bytes()).unwrap(), Appended::Queued { .. }));
    }
}

fn all(queue: &Queue) -> Vec<String> {
    let (records, _) = queue.peek(usize::MAX, usize::MAX).unwrap();
    records.into_iter().map(|r| String::from_utf8(r.body).unwrap()).collect()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    all.retain(|p| p.extension().is_some_and(|e| e == "queue"));
    all.sort();
    all
}

#[test]
fn what_was_not_delivered_is_there_after_a_restart_in_order_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, damage) = opened(dir.path(), ROOMY);
    assert_eq!(damage, Damage::default());
    fill(&queue, 0, 10);
    let (first, _) = queue.peek(4, usize::MAX).unwrap();
    assert_eq!(queue.advance(first[3].number + 1).unwrap(), 4);
    assert_eq!(queue.advance(2).unwrap(), 0, "nothing comes back");
    // No farewell: as a kill leaves it.
    drop(queue);
    let (queue, damage) = opened(dir.path(), ROOMY);
    assert_eq!(damage, Damage::default());
    assert_eq!(all(&queue), (4..10).map(|i| format!("record {i}")).collect::<Vec<_>>());
    assert_eq!(queue.waiting().0, 6);
    fill(&queue, 10, 11);
    assert_eq!(queue.advance(u64::MAX).unwrap(), 7);
    assert_eq!((queue.waiting(), segments(dir.path()).len()), ((0, 0), 0), "an idle queue takes no room");
    drop(queue);
    let (queue, _) = opened(dir.path(), ROOMY);
    assert!(
        matches!(queue.append(b"x").unwrap(), Appended::Queued { number: 11, .. }),
        "numbers are never given twice"
    );
}

#[test]
fn a_torn_tail_is_cut_off_and_said_wherever_it_was_torn() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, _) = opened(dir.path(), ROOMY);
    fill(&queue, 0, 3);
    drop(queue);
    let path = segments(dir.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    let two = whole.len() / 3 * 2;
    for cut in two + 1..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let (queue, damage) = opened(dir.path(), ROOMY);
        assert_eq!(all(&queue), ["record 0", "record 1"]);
        assert_eq!(damage.words.len(), 2, "{damage:?}");
        assert!(damage.words[1].contains("behind 2 whole records are torn"), "{damage:?}");
        assert!(matches!(queue.append(b"record 2").unwrap(), Appended::Queued { number: 2, .. }));
        drop(queue);
        assert_eq!(fs::read(&path).unwrap(), whole, "cut and written again");
    }
    // A bit that flipped in the middle.
    let mut flipped = whole.clone();
    flipped[two - 1] ^= 1;
    fs::write(&path, &flipped).unwrap();
    assert_eq!(all(&opened(dir.path(), ROOMY).0), ["record 0"]);
}

#[test]
fn where_delivery_stood_is_checked_too_and_if_unknown_everything_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, _) = opened(dir.path(), ROOMY);
    fill(&queue, 0, 3);
    queue.advance(2).unwrap();
    drop(queue);
    fs::write(dir.path().join("cursor"), b"not a cursor").unwrap();
    let (queue, damage) = opened(dir.path(), ROOMY);
    assert_eq!(all(&queue).len(), 3);
    assert!(damage.words[0].contains("delivered, some of it again"), "{damage:?}");
}

#[test]
fn the_bound_holds_and_the_oldest_or_the_newest_goes_as_configured() {
    const SIZE: u64 = 16_000;
    let body = [b'x'; 92];
    for full in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let dir = tempfile::tempdir().unwrap();
        let (queue, _) = opened(dir.path(), Bounds { size: SIZE, full });
        let (mut dropped, mut refused) = (0, 0);
        for _ in 0..1000 {
            match queue.append(&body).unwrap() {
                Appended::Queued { dropped: n, .. } => dropped += n,
                Appended::Full => refused += 1,
                Appended::TooLarge => panic!("it fits"),
            }
            let on_disk: u64 = segments(dir.path()).iter().map(|p| fs::metadata(p).unwrap().len()).sum();
            assert!(on_disk <= SIZE && queue.waiting().1 == on_disk);
        }
        let (records, _) = queue.peek(usize::MAX, usize::MAX).unwrap();
        assert_eq!(records.len() as u64 + dropped + refused, 1000, "each is queued or counted");
        // A full queue is nearly as full as it may be.
        assert!(records.len() >= 130, "{}", records.len());
        let numbers = (records[0].number, records.last().unwrap().number);
        match full {
            WhenFull::DropOldest => assert_eq!((refused, numbers.1), (0, 999)),
            WhenFull::DropNewest => assert_eq!((dropped, numbers.0), (0, 0)),
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (queue, _) = opened(dir.path(), Bounds { size: SIZE, full: WhenFull::DropOldest });
    assert_eq!(queue.append(&vec![0; SIZE as usize]).unwrap(), Appended::TooLarge);
}

#[test]
fn what_went_to_make_room_is_not_counted_as_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, _) = opened(dir.path(), Bounds { size: 1000, full: WhenFull::DropOldest });
    fill(&queue, 0, 10);
    // A batch is on its way while its records are dropped.
    let (batch, _) = queue.peek(10, usize::MAX).unwrap();
    let mut dropped = 0;
    for i in 10..200 {
        let Appended::Queued { dropped: n, .. } = queue.append(format!("record {i}").as_bytes()).unwrap() else {
            panic!()
        };
        dropped += n;
    }
    let delivered = queue.advance(batch.last().unwrap().number + 1).unwrap();
    assert_eq!((delivered, dropped + queue.waiting().0), (0, 200));
}

#[test]
fn a_record_that_changed_on_disk_is_passed_over_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, _) = opened(dir.path(), ROOMY);
    fill(&queue, 0, 3);
    let path = segments(dir.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[9] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (records, unreadable) = queue.peek(10, 1000).unwrap();
    assert_eq!((records.len(), records[0].number, unreadable), (2, 1, 1));
}
