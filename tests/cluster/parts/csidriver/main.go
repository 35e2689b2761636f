// A CSI driver over plain directories: a volume is a directory on the node that the scheduler chose.
//
// The nodes of a test cluster share one file system, so the controller makes directories for all of them; the
// node of a volume is part of its id, and no other node publishes it. A raw block volume is a file behind a loop
// device. Snapshots are copies (snapshots.go). What all of it means follows
// https://github.com/container-storage-interface/spec.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const (
	driverName  = "directories.brc.example"
	topologyKey = driverName + "/node"
	sizeMinimum = int64(1 << 20)
)

type driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer
	registration.UnimplementedRegistrationServer
	node   string
	root   string
	socket string
}

// -- identity and registration

func (d *driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: driverName, VendorVersion: "1"}, nil
}

func (d *driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	var offered []*csi.PluginCapability
	for _, kind := range []csi.PluginCapability_Service_Type{
		csi.PluginCapability_Service_CONTROLLER_SERVICE,
		csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS,
	} {
		offered = append(offered, &csi.PluginCapability{
			Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: kind}},
		})
	}
	return &csi.GetPluginCapabilitiesResponse{Capabilities: offered}, nil
}

func (d *driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}

func (d *driver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: driverName, Endpoint: d.socket, SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (d *driver) NotifyRegistrationStatus(_ context.Context, said *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !said.PluginRegistered {
		log.Printf("not registered: %s", said.Error)
	}
	return &registration.RegistrationStatusResponse{}, nil
}

// -- controller

func (d *driver) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	var offered []*csi.ControllerServiceCapability
	for _, kind := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		rpc := &csi.ControllerServiceCapability_RPC{Type: kind}
		offered = append(offered, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: rpc},
		})
	}
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: offered}, nil
}

func (d *driver) CreateVolume(_ context.Context, asked *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if asked.Name == "" || len(asked.VolumeCapabilities) == 0 {
		return nil, status.Error(codes.InvalidArgument, "a volume needs a name and capabilities")
	}
	if strings.ContainsAny(asked.Name, "/\\") {
		return nil, status.Error(codes.InvalidArgument, "the name is not a file name")
	}
	isBlock := false
	for _, capability := range asked.VolumeCapabilities {
		isBlock = isBlock || capability.GetBlock() != nil
	}
	if known, id := d.find(asked.Name); known != nil {
		if !fits(known.Capacity, asked.GetCapacityRange()) {
			return nil, status.Error(codes.AlreadyExists, "a volume of this name has another size")
		}
		return made(id, known.Capacity, asked.VolumeContentSource), nil
	}
	source, err := d.source(asked.VolumeContentSource)
	if err != nil {
		return nil, err
	}
	node := d.node
	for _, preferred := range asked.GetAccessibilityRequirements().GetPreferred() {
		if name := preferred.GetSegments()[topologyKey]; name != "" {
			node = name
			break
		}
	}
	size := max(asked.GetCapacityRange().GetRequiredBytes(), sizeMinimum)
	id := node + "/" + asked.Name
	if err := d.fill(id, source, isBlock, size); err != nil {
		return nil, status.Errorf(codes.Internal, "%v", err)
	}
	if err := d.describe(id, size); err != nil {
		return nil, status.Errorf(codes.Internal, "%v", err)
	}
	return made(id, size, asked.VolumeContentSource), nil
}

func made(id string, size int64, source *csi.VolumeContentSource) *csi.CreateVolumeResponse {
	node, _, _ := strings.Cut(id, "/")
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId:           id,
		CapacityBytes:      size,
		ContentSource:      source,
		AccessibleTopology: []*csi.Topology{{Segments: map[string]string{topologyKey: node}}},
	}}
}

func fits(size int64, wanted *csi.CapacityRange) bool {
	limit := wanted.GetLimitBytes()
	return size >= wanted.GetRequiredBytes() && (limit == 0 || size <= limit)
}

func (d *driver) DeleteVolume(_ context.Context, asked *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if asked.VolumeId == "" {
		return nil, status.Error(codes.InvalidArgument, "a volume is needed")
	}
	path, err := d.directory(asked.VolumeId)
	if err != nil {
		// What cannot be a volume of this driver is gone already.
		return &csi.DeleteVolumeResponse{}, nil
	}
	for _, each := range []string{path, d.description(asked.VolumeId)} {
		if err := os.RemoveAll(each); err != nil {
			return nil, status.Errorf(codes.Internal, "%v", err)
		}
	}
	return &csi.DeleteVolumeResponse{}, nil
}

func (d *driver) ValidateVolumeCapabilities(_ context.Context, asked *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if asked.VolumeId == "" {
		return nil, status.Error(codes.InvalidArgument, "a volume is needed")
	}
	path, err := d.directory(asked.VolumeId)
	if err != nil {
		return nil, err
	}
	if len(asked.VolumeCapabilities) == 0 {
		return nil, status.Error(codes.InvalidArgument, "no capabilities were asked about")
	}
	if _, err := os.Stat(path); err != nil {
		return nil, status.Error(codes.NotFound, "no such volume")
	}
	return &csi.ValidateVolumeCapabilitiesResponse{
		Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeCapabilities: asked.VolumeCapabilities},
	}, nil
}

func (d *driver) directory(id string) (string, error) {
	node, name, found := strings.Cut(id, "/")
	if !found || node == "" || name == "" || strings.Contains(name, "/") || node == ".." || name == ".." {
		return "", status.Error(codes.NotFound, "no such volume")
	}
	return filepath.Join(d.root, node, name), nil
}

// -- node

func (d *driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	rpc := &csi.NodeServiceCapability_RPC{Type: csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER}
	return &csi.NodeGetCapabilitiesResponse{Capabilities: []*csi.NodeServiceCapability{
		{Type: &csi.NodeServiceCapability_Rpc{Rpc: rpc}},
	}}, nil
}

func (d *driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	here := &csi.Topology{Segments: map[string]string{topologyKey: d.node}}
	return &csi.NodeGetInfoResponse{NodeId: d.node, AccessibleTopology: here}, nil
}

func (d *driver) NodePublishVolume(_ context.Context, asked *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if asked.VolumeId == "" || asked.TargetPath == "" || asked.VolumeCapability == nil {
		return nil, status.Error(codes.InvalidArgument, "a volume, a target path and a capability are needed")
	}
	path, err := d.directory(asked.VolumeId)
	if err != nil {
		return nil, err
	}
	if node, _, _ := strings.Cut(asked.VolumeId, "/"); node != d.node {
		return nil, status.Errorf(codes.FailedPrecondition, "the volume is on node %s", node)
	}
	if _, err := os.Stat(path); err != nil {
		return nil, status.Error(codes.NotFound, "no such volume")
	}
	alone := csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
	if asked.VolumeCapability.GetAccessMode().GetMode() == alone && isMountedElsewhere(path, asked.TargetPath) {
		return nil, status.Error(codes.FailedPrecondition, "another one has the volume")
	}
	if asked.VolumeCapability.GetBlock() != nil {
		if err := publishDevice(filepath.Join(path, disk), asked.TargetPath); err != nil {
			return nil, status.Errorf(codes.Internal, "%v", err)
		}
		return &csi.NodePublishVolumeResponse{}, nil
	}
	if err := os.MkdirAll(asked.TargetPath, 0o750); err != nil {
		return nil, status.Errorf(codes.Internal, "%v", err)
	}
	if isMounted(asked.TargetPath) {
		return &csi.NodePublishVolumeResponse{}, nil
	}
	if err := syscall.Mount(path, asked.TargetPath, "", syscall.MS_BIND, ""); err != nil {
		return nil, status.Errorf(codes.Internal, "mount: %v", err)
	}
	if asked.Readonly {
		flags := uintptr(syscall.MS_BIND | syscall.MS_REMOUNT | syscall.MS_RDONLY)
		if err := syscall.Mount("", asked.TargetPath, "", flags, ""); err != nil {
			return nil, status.Errorf(codes.Internal, "mount read-only: %v", err)
		}
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (d *driver) NodeUnpublishVolume(_ context.Context, asked *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if asked.VolumeId == "" || asked.TargetPath == "" {
		return nil, status.Error(codes.InvalidArgument, "a volume and a target path are needed")
	}
	device := deviceAt(asked.TargetPath)
	for isMounted(asked.TargetPath) {
		if err := syscall.Unmount(asked.TargetPath, 0); err != nil {
			return nil, status.Errorf(codes.Internal, "unmount: %v", err)
		}
	}
	if err := os.Remove(asked.TargetPath); err != nil && !os.IsNotExist(err) {
		return nil, status.Errorf(codes.Internal, "%v", err)
	}
	if err := release(device); err != nil {
		return nil, status.Errorf(codes.Internal, "%v", err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// Whether a directory is mounted anywhere but at a path.
func isMountedElsewhere(directory, path string) bool {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	for _, line := range strings.Split(string(mounts), "\n") {
		fields := strings.Fields(line)
		if len(fields) > 4 && len(fields[3]) > 1 && strings.HasSuffix(directory, fields[3]) && fields[4] != path {
			return true
		}
	}
	return false
}

func isMounted(path string) bool {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return false
	}
	for _, line := range strings.Split(string(mounts), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[1] == path {
			return true
		}
	}
	return false
}

// -- servers

func serve(socket string, register func(*grpc.Server)) {
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		log.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	log.Fatal(server.Serve(listener))
}

func main() {
	d := &driver{}
	registry := flag.String("registry", "", "the kubelet's folder plugins_registry; empty: do not register")
	flag.StringVar(&d.node, "node", "", "name of the node")
	flag.StringVar(&d.root, "root", "", "folder of the volumes, shared by the nodes")
	flag.StringVar(&d.socket, "socket", "", "where to listen")
	flag.Parse()
	if *registry != "" {
		go serve(filepath.Join(*registry, driverName+"-reg.sock"), func(server *grpc.Server) {
			registration.RegisterRegistrationServer(server, d)
		})
	}
	serve(d.socket, func(server *grpc.Server) {
		csi.RegisterIdentityServer(server, d)
		csi.RegisterControllerServer(server, d)
		csi.RegisterNodeServer(server, d)
	})
}
