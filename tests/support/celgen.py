"""Expressions by the seed: typed, so that most have a value, over an object that looks like Kubernetes'.

Each is of the language that Kubernetes compiles: literals of one type, `dyn(…)` where types mix.
"""

import random

OBJECT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "web",
        "namespace": "shop",
        "labels": {"app": "web", "tier": "front", "app.kubernetes.io/name": "web"},
        "annotations": {"note": "Ünïcode ☺ text", "empty": ""},
        "creationTimestamp": "2026-03-01T12:30:45.5Z",
        "generation": 7,
    },
    "spec": {
        "replicas": 3,
        "paused": False,
        "ratio": 1.5,
        "nothing": None,
        "negative": -7,
        "big": 9007199254740993,
        "numbers": [3, 1, 2, 3],
        "words": ["beta", "alpha", "gamma", ""],
        "mixed": [1, "a", 2.5, True, None],
        "containers": [
            {"name": "app", "image": "registry.example/team/app:1.2.3", "ports": [80, 443]},
            {"name": "log", "image": "busybox", "ports": []},
        ],
        "limits": {"cpu": "100m", "memory": "1Gi"},
    },
}
PARAMS = {
    "registry": "mirror.example",
    "limit": 5,
    "names": {"shop": "shop-dr"},
    "hosts": ["a", "b"],
}
GIVEN = {"object": OBJECT, "params": PARAMS}
INTS = ["0", "1", "-1", "2", "7", "-7", "3", "100", "9223372036854775807", "-9223372036854775808"]
DOUBLES = ["0.0", "1.0", "-1.5", "2.5", "1e19", "0.1", "1e-7", "123456.789"]
STRINGS = [
    "''",
    "'a'",
    "'web'",
    "'Hello, Wörld'",
    "'a,b,,c'",
    "' trim\\t'",
    "'☺é'",
    "'/a~b/'",
    "'42'",
]
PATTERNS = ["'^a'", "'[a-z]+'", "'o'", "'\\\\d*'", "'(a|b)+'", "'^web$'", "''"]
PARTS = ["getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getHours",
         "getMinutes", "getSeconds", "getMilliseconds"]  # fmt: skip
NAMED = ["dns1123Label", "dns1123Subdomain", "dns1035Label", "qualifiedName", "dns1123LabelPrefix",
         "dns1123SubdomainPrefix", "dns1035LabelPrefix", "labelValue", "uuid", "byte", "date", "datetime"]  # fmt: skip


class Maker:
    """Makes expressions of a wanted type; `used` counts what they are made of."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.used = {}
        self.bound = []

    def expression(self):
        """One expression of any type."""
        self.bound = []
        return self.of(self.pick(TYPES), 4)

    def pick(self, options):
        return self.random.choice(options)

    def of(self, kind, depth):
        """An expression of a type; at depth 0 a leaf."""
        leaves, forms = RULES[kind]
        local = [name for name, of in self.bound if of == kind]
        if local and self.random.random() < 0.4:
            return self.pick(local)
        if depth <= 0 or self.random.random() < 0.15:
            return self.pick(leaves)
        form = self.pick(forms)
        self.used[form] = self.used.get(form, 0) + 1
        return self.fill(form, depth - 1)

    def fill(self, form, depth):
        """Replace `<type>` by expressions, `<name:type>` bindings by fresh names in scope of `<|type>` bodies."""
        made, rest, bound = "", form, []
        while "<<" in rest:
            before, _, rest = rest.partition("<<")
            slot, _, rest = rest.partition(">>")
            made += before
            if slot.startswith("let "):
                name = f"v{len(self.bound)}"
                self.bound.append((name, slot[4:]))
                bound.append(name)
                made += name
            elif slot.startswith("lit "):
                made += self.pick(LITERALS[slot[4:]])
            else:
                made += self.of(slot, depth)
        for _ in bound:
            self.bound.pop()
        return made + rest


LITERALS = {"pattern": PATTERNS, "part": PARTS, "named": NAMED, "int": INTS[:7],
            "zone": ["'UTC'", "'+02:00'", "'Europe/Berlin'", "'-09:30'", "'Asia/Kathmandu'"],
            "format": ["'%s'", "'%d'", "'%.2f'", "'%e'", "'%x'", "'%b'", "'%o'", "'%X'"],
            "cidr": ["'10.0.0.0/8'", "'10.1.2.3/16'", "'2001:db8::/32'", "'0.0.0.0/0'"],
            "ip": ["'10.1.2.3'", "'::1'", "'2001:DB8::1'", "'127.0.0.1'", "'224.0.0.1'", "'169.254.1.1'", "'0.0.0.0'"],
            "quantity": ["'1'", "'100m'", "'1Ki'", "'1.5Gi'", "'1e3'", "'0.1m'", "'-2'", "'1000m'", "'5k'", "'12E'"],
            "semver": ["'1.2.3'", "'1.2.3-rc.1'", "'0.0.1+build'", "'10.0.0-alpha.9'", "'2.0.0'"],
            "loose": ["'v1.2'", "'01.2.3'", "'1'", "'v2.0.0-rc1'"],
            "url": ["'https://example.com:80/a b?k=1&k=2&x=%20'", "'/path/only?q'", "'https://[::1]:443/'",
                    "'http://user:pw@host/p#frag'", "'mailto:a@b'", "'../rel'", "'https://a:b:c/'"],
            "escape": ["'a/b~c'", "'plain'"]}  # fmt: skip
TYPES = ["bool", "bool", "bool", "int", "string", "double", "uint", "ints", "strings", "map", "duration", "timestamp",
         "optional", "patch", "dyn", "bytes"]  # fmt: skip
RULES = {
    "bool": (
        ["true", "false", "object.spec.paused", "has(object.spec.replicas)", "has(object.spec.missing)",
         "has(object.spec.nothing)", "object.missing", "'app' in object.metadata.labels"],
        ["<<bool>> && <<bool>>", "<<bool>> || <<bool>>", "!<<bool>>", "<<bool>> ? <<bool>> : <<bool>>",
         "(<<bool>> && <<bool>>) || <<bool>>", "<<int>> == <<int>>", "<<int>> < <<int>>", "<<int>> >= <<int>>",
         "<<int>> <= <<double>>", "<<uint>> < <<int>>", "<<double>> > <<double>>", "<<string>> == <<string>>",
         "<<string>> != <<string>>", "<<string>> < <<string>>", "<<bytes>> <= <<bytes>>", "<<dyn>> == <<dyn>>",
         "<<dyn>> != <<dyn>>", "<<dyn>> in object.spec.mixed", "<<int>> in <<ints>>", "<<string>> in <<strings>>",
         "<<string>> in object.metadata.labels", "<<ints>> == <<ints>>", "<<map>> == <<map>>",
         "<<duration>> < <<duration>>", "<<timestamp>> > <<timestamp>>", "<<string>>.startsWith(<<string>>)",
         "<<string>>.endsWith(<<string>>)", "<<string>>.contains(<<string>>)", "<<string>>.matches(<<lit pattern>>)",
         "<<ints>>.all(<<let int>>, <<bool>>)", "<<ints>>.exists(<<let int>>, <<bool>>)",
         "<<strings>>.exists_one(<<let string>>, <<bool>>)", "<<strings>>.all(<<let int>>, <<let string>>, <<bool>>)",
         "<<ints>>.exists(<<let int>>, <<let int>>, <<bool>>)", "<<map>>.all(<<let string>>, <<bool>>)",
         "<<map>>.existsOne(<<let string>>, <<let int>>, <<bool>>)", "bool('true')", "<<optional>>.hasValue()",
         "<<ints>>.isSorted()", "sets.contains(<<ints>>, <<ints>>)", "sets.equivalent(<<ints>>, <<ints>>)",
         "sets.intersects(<<strings>>, <<strings>>)", "isQuantity(<<string>>)", "isURL(<<lit url>>)", "isIP(<<string>>)",
         "isIP(<<lit ip>>)", "isCIDR(<<lit cidr>>)", "isSemver(<<lit semver>>)", "isSemver(<<lit loose>>, true)",
         "quantity(<<lit quantity>>).isInteger()", "quantity(<<lit quantity>>).isLessThan(quantity(<<lit quantity>>))",
         "quantity(<<lit quantity>>).isGreaterThan(quantity(<<lit quantity>>))",
         "quantity(<<lit quantity>>) == quantity(<<lit quantity>>)", "ip(<<lit ip>>).isLoopback()",
         "ip(<<lit ip>>).isGlobalUnicast()", "ip(<<lit ip>>).isUnspecified()", "ip(<<lit ip>>).isLinkLocalMulticast()",
         "ip(<<lit ip>>).isLinkLocalUnicast()", "ip.isCanonical(<<lit ip>>)", "cidr(<<lit cidr>>).containsIP(<<lit ip>>)",
         "cidr(<<lit cidr>>).containsIP(ip(<<lit ip>>))", "cidr(<<lit cidr>>).containsCIDR(<<lit cidr>>)",
         "cidr(<<lit cidr>>).containsCIDR(cidr(<<lit cidr>>))", "semver(<<lit semver>>).isLessThan(semver(<<lit semver>>))",
         "semver(<<lit semver>>).isGreaterThan(semver(<<lit semver>>))", "semver(<<lit semver>>) == semver(<<lit semver>>)",
         "format.<<lit named>>().validate(<<string>>).hasValue()", "type(<<dyn>>) == int", "type(<<dyn>>) == string",
         "has(object.spec.limits.cpu)", "object.?spec.?paused.orValue(<<bool>>)", "has({?'a': <<optional>>.optMap(x, int(x))}.a)"],
    ),
    "int": (
        [*INTS, "object.spec.replicas", "object.metadata.generation", "object.spec.negative", "params.limit",
         "object.spec.big"],
        ["<<int>> + <<int>>", "<<int>> - <<int>>", "<<int>> * <<int>>", "<<int>> / <<int>>", "<<int>> % <<int>>", "-(<<int>>)",
         "size(<<string>>)", "size(<<ints>>)", "<<map>>.size()", "size(<<bytes>>)", "int(<<double>>)", "int(<<uint>>)",
         "int('42')", "int(<<string>>)", "int(<<timestamp>>)", "<<bool>> ? <<int>> : <<int>>", "<<ints>>[<<int>>]",
         "<<map>>[<<string>>]", "<<map>>['a']", "<<string>>.indexOf(<<string>>)", "<<string>>.lastIndexOf(<<string>>)",
         "<<string>>.indexOf(<<string>>, <<lit int>>)", "<<string>>.lastIndexOf(<<string>>, <<lit int>>)", "<<ints>>.sum()",
         "<<ints>>.min()", "<<ints>>.max()", "<<ints>>.indexOf(<<int>>)", "<<strings>>.lastIndexOf(<<string>>)",
         "<<timestamp>>.<<lit part>>()", "<<timestamp>>.<<lit part>>(<<lit zone>>)", "<<duration>>.getHours()",
         "<<duration>>.getMinutes()", "<<duration>>.getSeconds()", "<<duration>>.getMilliseconds()", "<<optional>>.orValue(<<int>>)",
         "<<optional>>.value()", "quantity(<<lit quantity>>).asInteger()", "sign(quantity(<<lit quantity>>))",
         "quantity(<<lit quantity>>).compareTo(quantity(<<lit quantity>>))", "semver(<<lit semver>>).major()",
         "semver(<<lit semver>>).minor()", "semver(<<lit semver>>).patch()",
         "semver(<<lit semver>>).compareTo(semver(<<lit loose>>, true))", "ip(<<lit ip>>).family()",
         "cidr(<<lit cidr>>).prefixLength()", "quantity(<<lit quantity>>).add(<<lit int>>).asInteger()",
         "sign(quantity(<<lit quantity>>).sub(quantity(<<lit quantity>>)))", "<<ints>>.first().orValue(<<int>>)",
         "<<ints>>.last().orValue(<<int>>)"],
    ),
    "uint": (
        ["0u", "1u", "7u", "18446744073709551615u"],
        ["<<uint>> + <<uint>>", "<<uint>> - <<uint>>", "<<uint>> * <<uint>>", "<<uint>> / <<uint>>", "<<uint>> % <<uint>>", "uint(<<int>>)",
         "uint(<<double>>)", "uint('7')"],
    ),
    "double": (
        [*DOUBLES, "object.spec.ratio"],
        ["<<double>> + <<double>>", "<<double>> - <<double>>", "<<double>> * <<double>>", "<<double>> / <<double>>", "-(<<double>>)",
         "double(<<int>>)", "double('1.5')", "double(<<string>>)", "quantity(<<lit quantity>>).asApproximateFloat()",
         "<<bool>> ? <<double>> : <<double>>"],
    ),
    "string": (
        [*STRINGS, "object.kind", "object.metadata.name", "object.metadata.annotations.note", "params.registry",
         "object.metadata.labels['app.kubernetes.io/name']", "object.spec.containers[0].image"],
        ["<<string>> + <<string>>", "string(<<int>>)", "string(<<double>>)", "string(<<bool>>)", "string(<<uint>>)",
         "string(<<duration>>)", "string(<<timestamp>>)", "string(<<bytes>>)", "<<bool>> ? <<string>> : <<string>>",
         "<<strings>>[<<lit int>>]", "<<string>>.charAt(<<lit int>>)", "<<string>>.substring(<<lit int>>)",
         "<<string>>.substring(<<lit int>>, <<lit int>>)", "<<string>>.replace(<<string>>, <<string>>)",
         "<<string>>.replace(<<string>>, <<string>>, <<lit int>>)", "<<strings>>.join()", "<<strings>>.join(<<string>>)",
         "<<string>>.trim()", "<<string>>.lowerAscii()", "<<string>>.upperAscii()", "<<string>>.find(<<lit pattern>>)",
         "jsonpatch.escapeKey(<<lit escape>>)", "strings.quote(<<string>>)", "<<strings>>.max()",
         "<<lit format>>.format([<<dyn>>])", "'%s %d'.format([dyn(<<string>>), dyn(<<int>>)])",
         "url(<<lit url>>).getScheme()", "url(<<lit url>>).getHost()", "url(<<lit url>>).getHostname()",
         "url(<<lit url>>).getPort()", "url(<<lit url>>).getEscapedPath()", "string(ip(<<lit ip>>))",
         "string(cidr(<<lit cidr>>).masked())", "string(cidr(<<lit cidr>>).ip())", "string(type(<<dyn>>)) + ''",
         "format.<<lit named>>().validate(<<string>>).orValue([''])[0]", "params.?names[?object.metadata.namespace].orValue(<<string>>)"],
    ),
    "bytes": (["b''", "b'abc'", "b'\\xff'"], ["bytes(<<string>>)", "<<bytes>> + <<bytes>>"]),
    "ints": (
        ["[]", "[1, 2, 3]", "[3, 1]", "object.spec.numbers", "object.spec.containers[0].ports"],
        ["[int(<<int>>), int(<<int>>)]", "<<ints>> + <<ints>>", "<<ints>>.map(<<let int>>, <<int>>)", "<<ints>>.filter(<<let int>>, <<bool>>)",
         "<<ints>>.map(<<let int>>, <<bool>>, <<int>>)", "<<strings>>.map(<<let string>>, <<int>>)",
         "<<ints>>.transformList(<<let int>>, <<let int>>, <<int>>)", "<<strings>>.transformList(<<let int>>, <<let string>>, <<bool>>, <<int>>)",
         "<<map>>.transformList(<<let string>>, <<let int>>, <<int>>).sort()", "<<ints>>.sort()", "<<ints>>.reverse()", "<<ints>>.distinct()",
         "<<ints>>.slice(<<lit int>>, <<lit int>>)", "lists.range(<<lit int>>)", "[?<<optional>>.optMap(x, int(x)), int(<<int>>)]", "<<bool>> ? <<ints>> : <<ints>>",
         "<<ints>>.sortBy(<<let int>>, <<int>>)"],
    ),
    "strings": (
        ["['a']", "object.spec.words", "params.hosts", "['b', 'a', 'b']"],
        ["[string(<<string>>), string(<<string>>)]", "<<string>>.split(<<string>>)", "<<string>>.split(<<string>>, <<lit int>>)",
         "<<string>>.findAll(<<lit pattern>>)", "<<string>>.findAll(<<lit pattern>>, <<lit int>>)",
         "<<strings>>.filter(<<let string>>, <<bool>>)", "<<strings>>.map(<<let string>>, <<string>>)",
         "object.metadata.labels.map(<<let string>>, <<string>>).sort()", "<<strings>>.sort()", "<<strings>>.reverse()",
         "<<strings>>.distinct()", "<<strings>> + <<strings>>", "<<strings>>.sortBy(<<let string>>, <<string>>)"],
    ),
    "map": (
        ["{}", "{'a': 1}", "{'b': 2, 'a': 1}"],
        ["{'a': int(<<int>>), 'b': int(<<int>>)}", "{<<string>>: <<int>>}", "<<map>>.transformMap(<<let string>>, <<let int>>, <<int>>)",
         "<<map>>.transformMap(<<let string>>, <<let int>>, <<bool>>, <<int>>)", "{?'a': <<optional>>.optMap(x, int(x)), 'c': int(<<int>>)}",
         "<<strings>>.transformMapEntry(<<let int>>, <<let string>>, {string(<<int>>): <<int>>})"],
    ),
    "duration": (
        ["duration('1h')", "duration('-1.5s')", "duration('90m30s')", "duration('1ns')"],
        ["<<duration>> + <<duration>>", "<<duration>> - <<duration>>", "<<timestamp>> - <<timestamp>>"],
    ),
    "timestamp": (
        ["timestamp('2026-03-01T12:30:45.123456789Z')", "timestamp('0001-01-01T00:00:00Z')",
         "timestamp(object.metadata.creationTimestamp)", "timestamp('2024-02-29T23:59:59+05:30')"],
        ["<<timestamp>> + <<duration>>", "<<timestamp>> - <<duration>>", "timestamp(<<lit int>>)"],
    ),
    "optional": (
        ["optional.none()", "optional.of(1)", "object.?spec.?replicas", "object.spec[?'missing']"],
        ["optional.of(<<int>>)", "optional.ofNonZeroValue(<<int>>)", "<<optional>>.or(<<optional>>)", "<<ints>>[?<<lit int>>]",
         "<<map>>[?<<string>>]", "<<optional>>.optMap(<<let int>>, <<int>>)", "<<optional>>.optFlatMap(<<let int>>, <<optional>>)"],
    ),
    "patch": (
        ["JSONPatch{op: 'remove', path: '/spec/paused'}"],
        ["JSONPatch{op: 'add', path: '/spec/replicas', value: <<int>>}", "JSONPatch{op: 'test', path: <<string>>, value: <<dyn>>}",
         "JSONPatch{op: 'move', from: '/a', path: '/b'}", "<<bool>> ? <<patch>> : <<patch>>"],
    ),
    "dyn": (
        ["object.spec.nothing", "object.spec.mixed", "object.metadata", "object.spec.containers[1]", "dyn(null)"],
        ["dyn(<<int>>)", "dyn(<<string>>)", "dyn(<<double>>)", "dyn(<<bool>>)", "dyn(<<uint>>)", "dyn(<<ints>>)", "dyn(<<map>>)",
         "dyn(<<bytes>>)", "dyn(<<duration>>)", "dyn(<<timestamp>>)", "object.spec.mixed[<<lit int>>]", "dyn(type(<<dyn>>))",
         "[dyn(<<int>>), dyn(<<string>>)]", "[<<ints>>, <<ints>>].flatten()", "dyn(url(<<lit url>>).getQuery())"],
    ),
}  # fmt: skip
