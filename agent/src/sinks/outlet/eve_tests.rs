use super::*;

fn file(path: PathBuf) -> LogFile {
    LogFile { path, max_size: 100, max_age: Duration::ZERO, keep: 3, compress: Compress::None }
}

fn lines(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|i| format!("{{\"n\":{i:012}}}")).collect()
}

/// Every line of the rotated files and the open one, in order.
fn read_all(path: &Path) -> Vec<String> {
    let mut text = String::new();
    for file in rotated(path).unwrap() {
        let bytes = fs::read(&file.path).unwrap();
        let plain = match file.path.extension().and_then(|e| e.to_str()) {
            Some("gz") => {
                let mut plain = Vec::new();
                io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut plain).unwrap();
                plain
            }
            Some("zst") => zstd::decode_all(&bytes[..]).unwrap(),
            _ => bytes,
        };
        text.push_str(&String::from_utf8(plain).unwrap());
    }
    text.push_str(&fs::read_to_string(path).unwrap_or_default());
    text.lines().map(str::to_owned).collect()
}

#[test]
fn files_are_rotated_by_size_kept_as_many_and_read_back_whole() {
    for compress in [Compress::None, Compress::Gzip, Compress::Zstd] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/eve.json");
        let mut out = Rotated::new(LogFile { keep: 1000, compress, ..file(path.clone()) });
        for i in 0..10 {
            out.write(&lines(i * 7, i * 7 + 7)).unwrap();
        }
        assert_eq!(read_all(&path), lines(0, 70), "{compress:?}");
        let rotated = rotated(&path).unwrap();
        assert!(rotated.len() > 10);
        for file in &rotated {
            assert!(compress != Compress::None || fs::metadata(&file.path).unwrap().len() <= 100, "no line is split");
        }
    }
}

#[test]
fn the_oldest_go_and_other_peoples_files_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("eve.json");
    for other in ["eve.json-old", "eve.json-20240101T000000.bak", "eve.json.1", "weve.json-20240101T000000"] {
        fs::write(dir.path().join(other), "mine").unwrap();
    }
    fs::write(dir.path().join("eve.json-20240101T000000.gz"), "old").unwrap();
    let mut out = Rotated::new(file(path.clone()));
    out.write(&lines(0, 100)).unwrap();
    assert_eq!(rotated(&path).unwrap().len(), 3);
    let all = read_all(&path);
    assert_eq!(all, lines(100 - all.len(), 100), "the newest are kept");
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 4 + 3 + 1);
}

#[test]
fn an_old_file_is_rotated_even_when_nothing_happens_and_an_empty_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("eve.json");
    let mut out = Rotated::new(LogFile { max_size: 0, max_age: Duration::from_millis(200), ..file(path.clone()) });
    out.write(&lines(0, 2)).unwrap();
    out.look_at_age();
    assert!(rotated(&path).unwrap().is_empty());
    std::thread::sleep(Duration::from_millis(250));
    out.look_at_age();
    assert_eq!(rotated(&path).unwrap().len(), 1);
    std::thread::sleep(Duration::from_millis(250));
    out.look_at_age();
    out.write(&lines(2, 3)).unwrap();
    assert_eq!((rotated(&path).unwrap().len(), read_all(&path)), (1, lines(0, 3)));
}

#[test]
fn a_file_that_others_moved_away_is_left_alone_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("eve.json"), dir.path().join("moved"));
    let mut out = Rotated::new(file(path.clone()));
    out.write(&lines(0, 1)).unwrap();
    fs::rename(&path, &moved).unwrap();
    out.reopen();
    out.write(&lines(1, 2)).unwrap();
    let read = |p: &Path| fs::read_to_string(p).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!((read(&moved), read(&path)), (lines(0, 1), lines(1, 2)));
}

#[test]
fn what_cannot_be_written_is_not_delivered_and_comes_whole_later() {
    let mut full = Rotated::new(LogFile { max_size: 0, ..file("/dev/full".into()) });
    let failed = full.write(&lines(0, 3)).unwrap_err();
    assert!(failed.done == 0 && failed.why.contains("/dev/full"), "{failed:?}");
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("not-a-folder");
    fs::write(&blocked, "").unwrap();
    let mut out = Rotated::new(file(blocked.join("eve.json")));
    assert_eq!(out.write(&lines(0, 3)).unwrap_err().done, 0);
    fs::remove_file(&blocked).unwrap();
    out.write(&lines(0, 3)).unwrap();
    assert_eq!(read_all(&blocked.join("eve.json")), lines(0, 3));
}

#[test]
fn a_line_that_a_kill_cut_off_does_not_spoil_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("eve.json");
    fs::write(&path, "{\"n\":1}\n{\"n\":").unwrap();
    let mut out = Rotated::new(LogFile { max_size: 0, ..file(path.clone()) });
    out.write(&lines(2, 4)).unwrap();
    let all = read_all(&path);
    assert_eq!((all.len(), all[2..].to_vec()), (4, lines(2, 4)));
}
