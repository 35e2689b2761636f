package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// Show a file as a block device at a path.
func publishDevice(file, target string) error {
	if isMounted(target) {
		return nil
	}
	said, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("losetup: %v: %s", err, said)
	}
	device := strings.TrimSpace(string(said))
	made, err := os.OpenFile(target, os.O_CREATE, 0o600)
	if err == nil {
		made.Close()
		err = syscall.Mount(device, target, "", syscall.MS_BIND, "")
	}
	if err != nil {
		_ = release(device)
		return fmt.Errorf("show %s: %v", device, err)
	}
	return nil
}

// The loop device that a path shows; empty when it shows none.
func deviceAt(target string) string {
	var seen syscall.Stat_t
	if syscall.Stat(target, &seen) != nil || seen.Mode&syscall.S_IFMT != syscall.S_IFBLK {
		return ""
	}
	return fmt.Sprintf("/dev/loop%d", seen.Rdev&0xff|(seen.Rdev>>12)&0xfff00)
}

func release(device string) error {
	if device == "" {
		return nil
	}
	if said, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
		return fmt.Errorf("losetup: %v: %s", err, said)
	}
	return nil
}
