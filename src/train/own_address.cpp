#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <set>
#include <vector>

#include "exchange_backend.h"
#include "gato/core/error.h"

namespace gato::train {
namespace {

struct InterfaceAddress {
  std::string interface, address;
  bool loopback = false;
};

std::string text_of(const sockaddr* address, socklen_t length) {
  std::array<char, NI_MAXHOST> text{};
  const int result = getnameinfo(address, length, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST);
  return result == 0 ? text.data() : "";
}

/// Of the interfaces that are up; those of link-local IPv6, which need a scope, are left out.
std::vector<InterfaceAddress> interface_addresses() {
  std::vector<InterfaceAddress> all;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return all;
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, freeifaddrs);
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || (entry->ifa_flags & IFF_UP) == 0) continue;
    const int family = entry->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    const std::string text = text_of(entry->ifa_addr, family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    if (text.empty() || text.find('%') != std::string::npos) continue;
    all.push_back({entry->ifa_name, text, (entry->ifa_flags & IFF_LOOPBACK) != 0});
  }
  return all;
}

std::string names_of(const std::vector<InterfaceAddress>& all) {
  std::set<std::string> names;
  for (const InterfaceAddress& one : all) names.insert(cat(one.interface, " (", one.address, ")"));
  return join({names.begin(), names.end()}, ", ");
}

std::string address_of(const std::string& interface, const std::vector<InterfaceAddress>& all) {
  for (const InterfaceAddress& one : all) {
    if (one.interface == interface) return one.address;  // IPv4 comes first in the list
  }
  throw ConfigError(cat("comm.interface: there is no network interface '", interface,
                        "' that is up and has an address; there are ", names_of(all)));
}

/// The source address of a packet to the master, found by connecting a socket that sends nothing.
std::string address_towards(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  const int result = getaddrinfo(host.c_str(), cat(port).c_str(), &hints, &found);
  if (result != 0) {
    throw ConfigError(cat("the master's address '", host, "' is unknown: ", gai_strerror(result),
                          "; MASTER_ADDR must be a host's name or address that every process can resolve"));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    const int socket_number = socket(one->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (socket_number < 0) continue;
    sockaddr_storage own{};
    socklen_t length = sizeof(own);
    auto* own_address = reinterpret_cast<sockaddr*>(&own);
    const bool known = connect(socket_number, one->ai_addr, one->ai_addrlen) == 0 &&
                       getsockname(socket_number, own_address, &length) == 0;
    close(socket_number);
    if (known) return text_of(own_address, length);
  }
  throw ConfigError(cat("no network interface of this host reaches the master's address '", host,
                        "'; set MASTER_ADDR or comm.interface"));
}

}  // namespace

std::string own_address(const Launch& launch, const std::string& interface) {
  const std::vector<InterfaceAddress> all = interface_addresses();
  if (!interface.empty()) return address_of(interface, all);
  std::string address = address_towards(launch.master_address, launch.master_port);
  const bool loopback = address.compare(0, 4, "127.") == 0 || address == "::1";
  if (!loopback || launch.nodes <= 1) return address;
  // Debian's /etc/hosts gives the host's own name the address 127.0.1.1, which no other host reaches.
  std::vector<InterfaceAddress> outward;
  std::copy_if(all.begin(), all.end(), std::back_inserter(outward),
               [](const InterfaceAddress& one) { return !one.loopback && one.address.find(':') == std::string::npos; });
  if (outward.size() == 1) return outward.front().address;
  throw ConfigError(cat("the master's address '", launch.master_address, "' is ", address,
                        " on this host, which the other ", launch.nodes - 1,
                        " hosts cannot reach; set comm.interface to one of ", names_of(all)));
}

}  // namespace gato::train
