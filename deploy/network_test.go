package deploy

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A zone that is lost takes nothing of the others: each has its own way out. What the
// network gives is what the stack asks for.
func TestNetwork(t *testing.T) {
	t.Parallel()
	all := template(t, network)
	r := all["Resources"]
	of := func(name, property string) any { return at(r, name, "Properties", property) }

	var private, routes, ranges []any
	for zone := range 3 {
		n := fmt.Sprint(zone + 1)
		for _, kind := range []string{"Public", "Private"} {
			assert.Equal(t, []any{zone, ""}, of(kind+"Subnet"+n, "AvailabilityZone"), kind+n)
			assert.Equal(t, kind+"Subnet"+n, of(kind+"Association"+n, "SubnetId"))
			ranges = append(ranges, of(kind+"Subnet"+n, "CidrBlock"))
		}
		assert.Equal(t, "PublicRoutes", of("PublicAssociation"+n, "RouteTableId"))
		assert.Equal(t, "PublicSubnet"+n, of("Nat"+n, "SubnetId"))
		assert.Equal(t, "PrivateRoutes"+n, of("PrivateAssociation"+n, "RouteTableId"))
		assert.Equal(t, []any{"PrivateRoutes" + n, "Nat" + n}, []any{of("PrivateRoute"+n, "RouteTableId"), of("PrivateRoute"+n, "NatGatewayId")})
		private, routes = append(private, "PrivateSubnet"+n), append(routes, "PrivateRoutes"+n)
	}
	apart(t, of("Vpc", "CidrBlock"), ranges)

	page, err := os.ReadFile("../docs/deploy-ecs.md")
	require.NoError(t, err)
	var services []string
	for name, resource := range r {
		if at(resource, "Type") != "AWS::EC2::VPCEndpoint" {
			continue
		}
		service := strings.TrimPrefix(of(name, "ServiceName").(string), "com.amazonaws.${AWS::Region}.")
		services = append(services, service)
		assert.Contains(t, string(page), strings.ReplaceAll(service, "s3", "S3"), "who brings a network must know")
		if service == "s3" {
			assert.Equal(t, routes, of(name, "RouteTableIds"))
		} else {
			assert.Equal(t, []any{private, true}, []any{of(name, "SubnetIds"), of(name, "PrivateDnsEnabled")}, service)
		}
	}
	slices.Sort(services)
	assert.Equal(t, []string{"ecr.api", "ecr.dkr", "events", "logs", "s3", "secretsmanager", "sqs"}, services)

	parameters := template(t, stack)["Parameters"]
	for name := range parameters {
		if strings.HasPrefix(name, "Vpc") || strings.HasSuffix(name, "Subnets") {
			assert.Contains(t, all["Outputs"], name)
		}
	}
	for name := range all["Outputs"] {
		assert.Contains(t, parameters, name)
	}
}

// apart checks that the ranges are in the whole and that none overlaps another.
func apart(t *testing.T, whole any, ranges []any) {
	t.Helper()
	prefix := func(v any) netip.Prefix {
		p, err := netip.ParsePrefix(strings.Replace(v.(string), "${Addresses}", "10.20", 1))
		require.NoError(t, err)
		require.Equal(t, p.Masked(), p)
		return p
	}
	for i, one := range ranges {
		assert.True(t, prefix(whole).Contains(prefix(one).Addr()) && prefix(one).Bits() > prefix(whole).Bits(), one)
		for _, other := range ranges[:i] {
			assert.False(t, prefix(one).Overlaps(prefix(other)), "%s, %s", one, other)
		}
	}
}
