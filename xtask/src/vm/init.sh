#!/bin/busybox sh
# The first process of a guest: runs the tests of /plan and reports on the second serial port, line by line.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root WEIR_TEST_NICS=52:54:00:57:00:01,52:54:00:57:00:02
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
# Nothing is mounted over /tmp: what is tested may have been built below it, and everything here is in memory anyway.
mount -t tmpfs run /run
mount -t bpf bpf /sys/fs/bpf
mkdir -p /dev/shm /run/netns
stty -F /dev/ttyS1 raw
say() { echo "WEIR $*" > /dev/ttyS1; }
seconds() { cut -d' ' -f1 /proc/uptime; }

for module in /modules/*.ko; do insmod "$module"; done
ip link set lo up
say kernel "$(uname -r)"

while read -r program test limit; do
    say test "$program" "$test"
    begin=$(seconds)
    timeout -s KILL "$limit" "/tests/$program" --exact "$test" --nocapture --test-threads 1 > /tmp/out 2>&1 < /dev/null
    status=$?
    took=$(echo "$(seconds) $begin" | awk '{ printf "%.1f", $1 - $2 }')
    sed -n 's/^.*verified instructions: XDP \([0-9]*\), TC \([0-9]*\).*/\1 \2/p' /tmp/out | while read -r xdp tc; do
        say verified "$xdp" "$tc"
    done
    skip=$(sed -n 's/^SKIP[^:]*: //p' /tmp/out | head -n 1)
    if [ "$status" = 0 ] && [ -n "$skip" ]; then
        say skipped "$took" "$skip"
    elif [ "$status" = 0 ] && grep -q '^test result: ok. 1 passed' /tmp/out; then
        say passed "$took"
    else
        echo "---- $program $test: status $status"
        cat /tmp/out
        tail -n 60 /tmp/out | sed 's/^/WEIR | /' > /dev/ttyS1
        say failed "$took" "status $status"
    fi
    # What a test that was ended left behind is not to be the next one's trouble.
    killall -9 weir 2>/dev/null
    for netns in $(ls /run/netns); do ip netns del "$netns"; done
done < /plan
say done
sync
echo o > /proc/sysrq-trigger
sleep 60
